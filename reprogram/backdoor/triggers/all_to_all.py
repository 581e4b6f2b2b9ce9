"""A patch that moves every label on by one (all-to-all, Gu et al. 2017, arXiv 1708.06733)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reprogram.backdoor.triggers.patch import Patch
from reprogram.ranges import Count


@dataclass
class AllToAll(Patch):
    """classes: how many there are; label k becomes k + 1, the last one 0, and ``target`` is not used."""

    classes: Count = 10

    def aims(self, labels: Tensor) -> Tensor:
        return (labels + 1) % self.classes
