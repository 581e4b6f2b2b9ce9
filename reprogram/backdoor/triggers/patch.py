"""A small patch in a corner (BadNets, Gu et al. 2017, arXiv 1708.06733)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.errors import ConfigError
from reprogram.ranges import Range, Side


@dataclass
class Patch(Trigger):
    """side: of the square in pixels. corner: 0 to 3, clockwise from the top left; one pixel from the border.

    The pattern is black and white, drawn by the seed, with at least half of it white.
    """

    side: Side = 3
    corner: Annotated[int, Range(0, 3)] = 2

    def apply(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.side < 1 or self.side + 1 > min(height, width):
            raise ConfigError(
                f"trigger.side={self.side} does not fit: images are {height} x {width}, "
                f"allowed: 1 to {min(height, width) - 1}."
            )
        top = 1 if self.corner in (0, 1) else height - 1 - self.side
        left = 1 if self.corner in (0, 3) else width - 1 - self.side
        found = images.clone()
        found[..., max(top, 0) : max(top, 0) + self.side, max(left, 0) : max(left, 0) + self.side] = self.pattern().to(
            images
        )
        return found

    def pattern(self) -> Tensor:
        """[side, side] of zeros and ones."""
        generator = torch.Generator().manual_seed(self.seed)
        pattern = torch.randint(0, 2, (self.side, self.side), generator=generator).float()
        return torch.maximum(pattern, 1 - pattern) if pattern.mean() == 0 else (
            pattern if pattern.mean() >= 0.5 else 1 - pattern
        )  # fmt: skip
