"""The target image in the centre of a trainable frame (VP, BAR, ILM-VP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.inputs.base import ImageInput
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.ranges import PositiveShare


@dataclass(eq=False)
class Pad(ImageInput):
    """x' = place(x) + sigmoid(δ)·M, M the frame around the centre (Chen et al. 2023, arXiv 2211.11635).

    The sigmoid keeps the frame in [0, 1] without clamping; δ = 0 at the start is a mid-grey frame. δ holds the frame's
    own values only, channels · (size² - inner²) of them: what lies under the image has no effect and would only dilute
    zeroth-order search.

    inner: side of the image as a share of the canvas; 0.57 is the field's 128 of 224 pixels.
    """

    inner: PositiveShare = 0.57

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        self.inner_side = round(self.inner * self.side)
        if not 1 <= self.inner_side < self.side:
            raise ConfigError(f"input.inner is {self.inner}; allowed: above 0 and below 1, leaving a frame")
        start = (self.side - self.inner_side) // 2
        self._centre = slice(start, start + self.inner_side)
        frame = torch.ones(self.side, self.side, dtype=torch.bool)
        frame[self._centre, self._centre] = False
        self._frame: Tensor
        self.register_buffer("_frame", frame, persistent=False)
        self.delta = nn.Parameter(torch.zeros(self.channels, int(frame.sum())))

    def forward(self, batch: Any) -> list[Any]:
        image = self.plain(batch, self.inner_side)
        canvas = image.new_zeros(self.channels, self.side, self.side)
        canvas[:, self._frame] = torch.sigmoid(self.delta)
        canvas = canvas.expand(len(image), -1, -1, -1).clone()
        canvas[:, :, self._centre, self._centre] = image
        return [canvas]
