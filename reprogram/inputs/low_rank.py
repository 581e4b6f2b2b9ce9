"""A pattern of low rank added over the whole image (LoR-VP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reprogram.errors import ConfigError
from reprogram.inputs.base import ImageInput, add
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.ranges import Seed, Side


@dataclass(eq=False)
class LowRank(ImageInput):
    """x' = clamp(resize(x) + B·A) for each channel, B = 0 and A ~ N(0, 0.01²) at the start (Jin et al. 2025, LoR-VP).

    5,376 values at 224 pixels and rank 4, against 150,528 of a full pattern: rows and columns share their values.

    rank: columns of B. seed: of A's start.
    """

    rank: Side = 4
    seed: Seed = 0

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if not 1 <= self.rank <= self.side:
            raise ConfigError(f"input.rank is {self.rank}; allowed: 1 to {self.side}")
        generator = torch.Generator().manual_seed(self.seed)
        self.columns = nn.Parameter(torch.zeros(self.channels, self.side, self.rank))
        self.rows = nn.Parameter(0.01 * torch.randn(self.channels, self.rank, self.side, generator=generator))

    def forward(self, batch: Any) -> list[Any]:
        return [add(self.plain(batch), self.columns @ self.rows)]
