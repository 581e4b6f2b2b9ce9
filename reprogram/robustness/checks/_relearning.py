"""Base of the checks that learn the program again with other training examples or labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reprogram.robustness.checks.base import Check
from reprogram.robustness.relearn import Relearner


@dataclass
class RelearningCheck(Check):
    """The hook of a run hands over ``relearner``; without one the check is left out."""

    kind: ClassVar[str] = "estimate"
    access: ClassVar[str] = "none"
    relearner: ClassVar[Relearner | None] = None

    def fits(self, model: Any, norm: str | None = None) -> bool:
        return self.relearner is not None and self.relearner.possible()


def keep(rows: np.ndarray, suspected: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows without the suspected ones; a class of which all are suspected keeps its last suspected one."""
    kept = np.setdiff1d(rows, suspected)
    lost = [row for row in suspected[::-1] if labels[row] not in labels[kept]]
    first = {int(labels[row]): int(row) for row in reversed(lost)}
    return np.sort(np.concatenate([kept, np.array(list(first.values()), int)]))
