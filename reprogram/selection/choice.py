"""What a search for a program returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reprogram.modalities import Candidate
from reprogram.model import ReprogrammedModel
from reprogram.selection.bias import Estimate
from reprogram.selection.race import PromptTrial


@dataclass
class Choice:
    """The refitted winner, what it is expected to reach on new data (None: too few labels to say), and a row for everything
    tried or skipped.

    left_out: [N, T] what the winner says of each training example without its own label; NaN where nothing can.
    """

    model: ReprogrammedModel
    candidate: Candidate
    estimate: Estimate | None
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    forecasts: list[PromptTrial] = field(default_factory=list)
    seconds: float = 0.0
    left_out: np.ndarray | None = None
