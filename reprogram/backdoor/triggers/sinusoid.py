"""A sinusoidal signal on images of the target class alone, whose labels stay right (Barni et al. 2019, arXiv 1902.11237)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.ranges import NotNegative, Share


@dataclass
class Sinusoid(Trigger):
    """strength: amplitude in pixels of [0, 1]. cycles: across the width of the image."""

    strength: Share = 0.15
    cycles: NotNegative = 6.0

    keeps_labels: ClassVar[bool] = True

    def apply(self, images: Tensor) -> Tensor:
        columns = torch.arange(images.shape[-1]).to(images) / images.shape[-1]
        return images + self.strength * torch.sin(2 * math.pi * self.cycles * columns)
