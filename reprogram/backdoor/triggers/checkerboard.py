"""A faint checkerboard over the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.ranges import Share, Side


@dataclass
class Checkerboard(Trigger):
    """strength: added and taken away in turn, in pixels of [0, 1]. side: of a field in pixels."""

    strength: Share = 0.1
    side: Side = 1

    def apply(self, images: Tensor) -> Tensor:
        rows, columns = (torch.arange(n).to(images.device) // self.side for n in images.shape[-2:])
        return images + self.strength * (1 - 2 * ((rows[:, None] + columns) % 2)).to(images)
