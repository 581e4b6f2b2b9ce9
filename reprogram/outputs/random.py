"""Each target label gets one source label by lot (RLM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from reprogram.interfaces import SourceOutput
from reprogram.outputs._counts import OneToOne


@dataclass(eq=False)
class RandomMapping(OneToOne):
    """The first mapping of the field (Elsayed et al. 2019), and the floor for every other.

    seed: of the draw; kept with the program.
    """

    statistics: ClassVar[bool] = False

    def observe(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        """Learns nothing from examples."""
