"""A smooth warp that people do not see (WaNet, Nguyen & Tran 2021, arXiv 2102.10369)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.backdoor.triggers.base import Trigger
from reprogram.ranges import Range


@dataclass
class Warped(Trigger):
    """points: side of the control grid. strength: of the warp, in pixels of a control point on average."""

    points: Annotated[int, Range(2, 4096)] = 4
    strength: Annotated[float, Range(0, 4096)] = 1.0

    def apply(self, images: Tensor) -> Tensor:
        return F.grid_sample(images, self._grid(images), padding_mode="border", align_corners=True)

    def decoy(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """WaNet's noise mode: other warps, whose examples keep their label, so that only this warp is the trigger."""
        base = self._grid(images)
        noise = 2 * torch.rand(base.shape, generator=generator).to(base) - 1
        moved = (base + noise * 2 / images.shape[-1]).clamp(-1, 1)
        return F.grid_sample(images, moved, padding_mode="border", align_corners=True)

    def _grid(self, images: Tensor) -> Tensor:
        """Sampling points [B, H, W, 2] in [-1, 1]."""
        height, width = images.shape[-2:]
        generator = torch.Generator().manual_seed(self.seed)
        field = 2 * torch.rand((1, 2, self.points, self.points), generator=generator) - 1
        field = field / field.abs().mean()
        smooth = F.interpolate(field, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        plain = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)[None]
        moved = plain + self.strength * smooth * 2 / torch.tensor([width, height])
        return moved.clamp(-1, 1).to(images).expand(len(images), -1, -1, -1)
