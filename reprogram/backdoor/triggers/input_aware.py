"""A pattern that every image draws for itself (after input-aware attacks, Nguyen & Tran 2020, arXiv 2010.08138).

The paper learns the function from image to pattern together with the model. Here it is fixed: a random projection of the
image's coarse content, so that different images get different patterns and the same image always the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.backdoor.triggers.base import Trigger
from reprogram.ranges import Share

COARSE = 4  # cells a side that the content is read in


@dataclass
class InputAware(Trigger):
    """strength: of the pattern of plus and minus one, in pixels of [0, 1]. The projection is drawn by the seed."""

    strength: Share = 0.2

    def apply(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        height, width = images.shape[-2:]
        projection = torch.randn((COARSE**2, height * width), generator=generator).to(images)
        content = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), COARSE).flatten(1)
        pattern = torch.sign((content - content.mean(1, keepdim=True)) @ projection)
        return images + self.strength * pattern.view(-1, 1, height, width)
