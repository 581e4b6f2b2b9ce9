"""A sound as its spectrogram on the mel scale, without the silence around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.inputs._mel import FLOOR, WINDOW, columns, log_mel
from reprogram.inputs._signals import SignalInput
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.ranges import Positive, Range


@dataclass(eq=False)
class MelSpectrogram(SignalInput):
    """Decibels below the loudest, in grey: low tones lie below, the channels are averaged, each sound fills the width.

    The target must say how many samples there are a second. bands: of the mel scale. window: in seconds.
    warp: of the frequency axis; 1.1 reads every tone as 10 % lower.
    """

    bands: Annotated[int, Range(8, 512)] = 64
    window: Positive = WINDOW
    warp: Annotated[float, Range(0.5, 2)] = 1.0

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if self.rate <= 1:
            raise ConfigError(f"input={self.name} needs to know how many samples there are a second: target.rate=NUMBER")

    def planes(self, block: Tensor) -> Tensor:
        level, ends = log_mel(block, float(self.rate), self.bands, self.window, self.warp)
        stacked = self.drawn(columns(level, ends, self.side)).flip(2)
        return F.interpolate(stacked, size=(self.side, self.side), mode="bilinear", antialias=True)

    def drawn(self, level: Tensor) -> Tensor:
        """Decibels below the loudest [B, bands, side] -> planes [B, P, bands, side] in [0, 1], up to rounding."""
        return (1 + level / FLOOR)[:, None]
