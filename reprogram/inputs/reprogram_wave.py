"""A trained wave added to the signal before it becomes a picture (Voice2Series, Yang et al. 2021, arXiv 2106.09296)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, nearest
from reprogram.inputs import __name__ as INPUTS
from reprogram.inputs._signals import SignalInput
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.modalities._signals import filled, standardised
from reprogram.ranges import NotNegative
from reprogram.registry import find, names


@dataclass(eq=False)
class ReprogramWave(SignalInput):
    """x' = pad(x) + θ as published, where θ is one wave for all signals, trained; here x is standardised first, so that one
    learning rate suits every unit.

    picture: the input transformation of signals that draws x'. strength: deviation of the wave at the start, which is
    noise of a fixed seed, in deviations of a signal; 0 starts from nothing.

    Saved: ``wave`` [1, C, L], L being the longest signal of the target.
    """

    picture: str = "spectrogram"
    strength: NotNegative = 0.01

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        known = [name for name in names(INPUTS) if name not in ("signal_views", self.name)]
        method: Any = find(INPUTS, self.picture, SignalInput) if self.picture in known else None
        if method is None:
            raise ConfigError(f"input.picture={self.picture} is no picture of a signal; {nearest(self.picture, known)}")
        self.drawing: Any = method(size=self.size, stretch=self.stretch)
        self.drawing.build(spec, target)
        start = torch.randn(1, self.signals, self.length, generator=torch.Generator().manual_seed(0))
        self.wave = nn.Parameter(self.strength * start)

    def planes(self, block: Tensor) -> Tensor:
        """The picture of the signal with the wave; what is longer than the wave has none behind its end."""
        signals = filled(standardised(block))
        wave = nn.functional.pad(self.wave, (0, max(0, signals.shape[2] - self.length)))[..., : signals.shape[2]]
        found: Tensor = self.drawing.planes(signals + wave)
        return found
