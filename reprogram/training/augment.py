"""Random changes to training images that do not change their label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch.nn import functional as F

from reprogram.modalities.batches import is_pixels
from reprogram.ranges import Checked, Range, Share


@dataclass
class Affine(Checked):
    """Rotation, scale, shift, shear and horizontal flip, drawn anew for each image; borders repeat the edge.

    rotate: degrees. scale, shift: share of the side. shear: share. flip: probability. All drawn evenly in +-value.
    """

    group: ClassVar[str] = "training.augment."

    rotate: Annotated[float, Range(0, 180)] = 12.0
    scale: Annotated[float, Range(0, 0.99)] = 0.12
    shift: Share = 0.12
    shear: Annotated[float, Range(0, 10)] = 0.1
    flip: Share = 0.0

    def __call__(self, batch: Any, generator: torch.Generator) -> Any:
        """Images [B, C, H, W] -> the same shape; anything else is returned as it is."""
        if not is_pixels(batch):
            return batch
        draw = torch.rand(len(batch), 6, generator=generator) * 2 - 1
        angle = draw[:, 0] * math.radians(self.rotate)
        size = 1 + draw[:, 1] * self.scale
        mirror = torch.where(torch.rand(len(batch), generator=generator) < self.flip, -1.0, 1.0)
        cos, sin, shear = angle.cos() / size, angle.sin() / size, draw[:, 4] * self.shear
        rows = [
            torch.stack([cos * mirror, -sin + shear, draw[:, 2] * 2 * self.shift], 1),
            torch.stack([sin * mirror, cos, draw[:, 3] * 2 * self.shift], 1),
        ]
        theta = torch.stack(rows, 1).to(batch.device)
        grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
        return F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
