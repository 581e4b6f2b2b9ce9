"""A signal as a line plot: what a person would look at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reprogram.inputs._signal_planes import line
from reprogram.inputs._signals import SignalInput
from reprogram.ranges import InputSide, Positive


@dataclass(eq=False)
class LinePlot(SignalInput):
    """Dark lines on white, each channel from its lowest to its highest value; up to three channels in the colours, more in
    tiles. In each column of pixels the line covers all values around it, so that no peak of a long signal is lost.

    width: of the line in pixels.
    """

    size: InputSide | None = 128
    width: Positive = 1.0

    def planes(self, block: Tensor) -> Tensor:
        return line(block, self.side if self.signals <= 3 else max(48, self.side // 2), self.width, self.stretch)
