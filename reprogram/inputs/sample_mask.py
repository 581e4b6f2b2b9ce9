"""A pattern weighted by a mask that a small network draws for each image (SMM)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.inputs.base import ImageInput, add
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.ranges import Seed


@dataclass(eq=False)
class SampleMask(ImageInput):
    """x' = clamp(r(x) + δ·up(f(r(x)))) (Cai et al. 2024, arXiv 2406.03150, eq. 3).

    f is a network of ``layers`` convolutions with three poolings, so its mask has 1/8 of the side; each mask value is
    copied to an 8x8 patch, without interpolation. The mask is unbounded, three channels, no sigmoid. δ = 0 at the start,
    which leaves the mask without a gradient on the very first step. Its BatchNorm is part of the program and moves in
    training only. 26,499 values in the mask network of five layers, 102,339 in that of six (3 channels).

    layers: 5 (the paper's choice for ResNets) or 6 (for vision transformers). seed: of the network's start.
    """

    layers: int = 5
    seed: Seed = 0

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if self.layers not in (5, 6):
            raise ConfigError(f"input.layers is {self.layers}; allowed: 5, 6")
        self.delta = nn.Parameter(torch.zeros(self.channels, self.side, self.side))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.mask = nn.Sequential(*_mask_network(self.channels, self.layers))

    def forward(self, batch: Any) -> list[Any]:
        image = self.plain(batch)
        return [add(image, self.delta * self.up(self.mask(image)))]

    def up(self, mask: Tensor) -> Tensor:
        """[B, C, side/8, side/8] -> [B, C, side, side] by copying."""
        return F.interpolate(mask, size=(self.side, self.side), mode="nearest")


def _mask_network(channels: int, layers: int) -> Iterator[nn.Module]:
    widths = [8, 16, 32, 64, 128][: layers - 1]
    before = channels
    for depth, width in enumerate(widths):
        yield nn.Conv2d(before, width, 3, padding=1)
        yield nn.BatchNorm2d(width)
        if depth < 3:
            yield nn.MaxPool2d(2)
        yield nn.ReLU()  # of the largest value: the largest of the values' ReLUs, with a quarter of the work
        before = width
    yield nn.Conv2d(before, channels, 3, padding=1)
