"""A signal as recurrence plots (Eckmann, Kamphorst & Ruelle 1987): how far it is from where it was at another time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from reprogram.inputs._signal_planes import recurrences
from reprogram.inputs._signals import SignalInput
from reprogram.ranges import Count, Length, Range


@dataclass(eq=False)
class Recurrence(SignalInput):
    """Distances between the states of all channels together at two times, without a threshold.

    delays: in pixels of the time axis, one plane each: a state is the values at ``states`` times that lie so far apart.
    """

    delays: Annotated[tuple[Count, ...], Length(1, 3)] = (1, 2, 4)
    states: Annotated[int, Range(1, 10)] = 3

    def planes(self, block: Tensor) -> Tensor:
        return recurrences(block, self.side, self.delays, self.states, self.stretch)
