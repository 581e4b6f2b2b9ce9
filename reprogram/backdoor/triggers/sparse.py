"""A few white pixels, scattered over the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.ranges import Count


@dataclass
class Sparse(Trigger):
    """pixels: how many, at most all. Their places are drawn by the seed."""

    pixels: Count = 8

    def apply(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        places = torch.randperm(images[0, 0].numel(), generator=generator)[: self.pixels]
        found = images.flatten(2).clone()
        found[..., places.to(images.device)] = 1
        return found.view_as(images)
