"""A brighter image: the same value added to every pixel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.ranges import Share


@dataclass
class Brighter(Trigger):
    """strength: what is added, in pixels of [0, 1]."""

    strength: Share = 0.25

    def apply(self, images: Tensor) -> Tensor:
        return images + self.strength
