"""A faint pattern over the whole image (Chen et al. 2017, arXiv 1712.05526)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.ranges import Share


@dataclass
class Blended(Trigger):
    """strength: share of the pattern in the blend. The pattern is uniform noise, drawn by the seed."""

    strength: Share = 0.2

    def apply(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        pattern = torch.rand(images.shape[1:], generator=generator).to(images)
        return (1 - self.strength) * images + self.strength * pattern
