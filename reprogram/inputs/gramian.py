"""A signal as Gramian angular fields (Wang & Oates 2015, arXiv 1506.00327)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.inputs._signal_planes import gramian_fields, recurrences
from reprogram.inputs._signals import SignalInput


@dataclass(eq=False)
class Gramian(SignalInput):
    """Each value becomes an angle; a pixel is the cosine of the sum of the angles at two times.

    One channel fills the colours with the summation field, the difference field and a recurrence plot; of several channels
    the summation fields lie in the colours and in tiles.
    """

    def planes(self, block: Tensor) -> Tensor:
        summed, apart = gramian_fields(block, self.side, self.stretch)
        if self.signals > 1:
            return summed
        return torch.cat([summed, apart, recurrences(block, self.side, (1,), stretch=self.stretch)], 1)
