"""A signal as a spectrogram, for sensors of any rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from reprogram.inputs._signal_planes import spectra
from reprogram.inputs._signals import SignalInput
from reprogram.ranges import Length, PositiveShare


@dataclass(eq=False)
class Spectrogram(SignalInput):
    """Logarithm of the magnitudes of a short-time Fourier transform, 60 dB below the loudest; low frequencies lie below.

    windows: shares of the signal's length, one plane each; of several channels the second one alone is used.
    """

    windows: Annotated[tuple[PositiveShare, ...], Length(1, 3)] = (0.0625, 0.125, 0.25)

    def planes(self, block: Tensor) -> Tensor:
        windows = self.windows if self.signals == 1 else self.windows[:2][-1:]
        return spectra(block, self.side, windows, self.stretch)
