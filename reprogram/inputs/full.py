"""A pattern added over the whole image (the "watermark" of the field)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reprogram.inputs.base import ImageInput, add
from reprogram.interfaces import SourceSpec, TargetInfo


@dataclass(eq=False)
class Full(ImageInput):
    """x' = clamp(resize(x) + δ), δ = 0 at the start (the shared-mask baseline of Cai et al. 2024, arXiv 2406.03150).

    Published code adds δ after normalisation, without bounds; here it is added to pixels and the sum is kept in [0, 1],
    so that the prompted image is an image. Learning rates are therefore in pixels: 0.01 is 2.5 grey levels a step.
    """

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        self.delta = nn.Parameter(torch.zeros(self.channels, self.side, self.side))

    def forward(self, batch: Any) -> list[Any]:
        return [add(self.plain(batch), self.delta)]
