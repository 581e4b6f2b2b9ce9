"""The target image at a trainable scale inside a trainable frame (AutoVP)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.inputs.base import ImageInput
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.ranges import Range


@dataclass(eq=False)
class Resize(ImageInput):
    """x' = m(s)·scale(x, s) + (1 - m(s))·sigmoid(δ) (Tsao et al. 2024, AutoVP, arXiv 2310.08381).

    s is the side of the image as a share of the canvas, learned through the pixels *and* through the edge of the mask
    m(s), which falls off over one pixel; the published mask is cut at int(h·s) and gives s no gradient. Above 1 the
    image is cropped. The image is brought to about its final size with antialiasing first, so that a small s averages
    pixels rather than skipping them.

    scale: s at the start. learn_scale: train it, or keep it. lowest, highest: where s may go.
    """

    scale: Annotated[float, Range(0, 100, open=True)] = 0.57
    learn_scale: bool = True
    lowest: Annotated[float, Range(0, 100, open=True)] = 0.1
    highest: Annotated[float, Range(0, 100, open=True)] = 2.0

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if not 0 < self.lowest <= self.scale <= self.highest <= 5:
            raise ConfigError(
                f"input.scale is {self.scale}; allowed: {self.lowest} to {self.highest} (input.lowest, input.highest)"
            )
        self.delta = nn.Parameter(torch.zeros(self.channels, self.side, self.side))
        self.log_scale = nn.Parameter(torch.tensor(math.log(self.scale)), requires_grad=self.learn_scale)
        positions = (torch.arange(self.side) + 0.5) / self.side * 2 - 1  # pixel centres, canvas from -1 to 1
        self._positions: Tensor
        self.register_buffer("_positions", positions, persistent=False)

    def share(self) -> Tensor:
        """s, within its limits; gradients pass through the limits, so that it can come back."""
        share = self.log_scale.exp()
        return share + (share.clamp(self.lowest, self.highest) - share).detach()

    def forward(self, batch: Any) -> list[Any]:
        share = self.share()
        about = min(max(math.exp(self.log_scale.item()), self.lowest), self.highest)
        image = self.plain(batch, max(1, round(about * self.side)))
        across = self._positions / share  # where each canvas pixel lies on the image, edges at -1 and 1
        grid = torch.stack(torch.meshgrid(across, across, indexing="xy"), -1).expand(len(image), -1, -1, -1)
        placed = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
        edge = ((share - self._positions.abs()) * self.side / 2 + 0.5).clamp(0, 1)
        mask = edge[:, None] * edge[None]
        return [mask * placed + (1 - mask) * torch.sigmoid(self.delta)]
