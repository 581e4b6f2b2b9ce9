"""A coarse pattern, scaled up and added over the whole image: few values, for search without gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reprogram.errors import ConfigError
from reprogram.inputs.base import ImageInput, add
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.ranges import Side


@dataclass(eq=False)
class Coarse(ImageInput):
    """x' = clamp(resize(x) + up(δ)), δ [channels, grid, grid] = 0 at the start, ``up`` bilinear.

    A zeroth-order estimate from q probes has a cosine of about sqrt(q / (q + d - 1)) with the gradient, so d decides
    what a query is worth: 192 values at grid 8, against 150,528 of a full pattern.
    """

    grid: Side = 8

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if not 1 <= self.grid <= self.side:
            raise ConfigError(f"input.grid is {self.grid}; allowed: 1 to {self.side}")
        self.delta = nn.Parameter(torch.zeros(self.channels, self.grid, self.grid))

    def forward(self, batch: Any) -> list[Any]:
        pattern = F.interpolate(self.delta[None], size=(self.side,) * 2, mode="bilinear", align_corners=False)
        return [add(self.plain(batch), pattern[0])]
