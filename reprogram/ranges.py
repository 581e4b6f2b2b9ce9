"""What an option may be beyond its type, declared where the option is declared: ``epochs: Count = 20``.

The command line (:func:`reprogram.configuration.check`), saved programs (:func:`reprogram.typecheck.check_arguments`)
and, for classes that derive from :class:`Checked`, Python itself refuse every other value in the same sentence. No float
is ever NaN or infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

FAR = 200  # an end beyond it is only told to those who passed it
MANY = 10**9  # more of anything is a slip of the finger


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; ``open``: without ``low`` itself."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def holds(self, value: Any) -> bool:
        """Does the value lie in the range?"""
        above = value > self.low if self.open else value >= self.low
        return above and value <= self.high

    def broken_by(self, value: Any) -> str:
        """What ``value`` is not, for the end of "… must be": both ends where they are near, else the one it passed."""
        if self.low > -FAR and self.high < FAR:
            return f"above {self.low:g} and at most {self.high:g}" if self.open else f"between {self.low:g} and {self.high:g}"
        if value > self.high:
            return f"at most {self.high:g}"
        return f"above {self.low:g}" if self.open else "0 or more" if self.low == 0 else f"at least {self.low:g}"


@dataclass(frozen=True)
class Length:
    """Texts and lists of at least ``low`` and at most ``high`` items."""

    low: int = 1
    high: float = math.inf

    def holds(self, value: Any) -> bool:
        """Has the value an allowed length?"""
        return self.low <= (len(value.strip()) if isinstance(value, str) else len(value)) <= self.high

    def broken_by(self, value: Any) -> str:
        if self.low == self.high:
            return f"of {self.low} items"
        return "a value, not an empty one" if self.high == math.inf else f"of {self.low} to {self.high} items"


Count = Annotated[int, Range(1, MANY)]
Amount = Annotated[int, Range(0, MANY)]
Side = Annotated[int, Range(1, 4096)]  # of an image, in pixels
InputSide = Annotated[int, Range(8, 2048)]  # of what a source is given to read
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what NumPy, PyTorch and scikit-learn all take
Positive = Annotated[float, Range(0, 10**6, open=True)]
NotNegative = Annotated[float, Range(0, 10**6)]
Seconds = Annotated[float, Range(0, 10**7, open=True)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(0, 1, open=True)]
NotEmpty = Annotated[str, Length()]
TestSize = Annotated[int, Range(1, MANY)] | Annotated[float, Range(0, 1, open=True)]  # a number, or a share
Shots = Amount | None  # labelled examples a class; 0: the class names have to do


class Checked:
    """A class whose plain arguments are checked against their declared types when it is made from Python.

    group: where its options stand on the command line, such as ``training.``.
    """

    group: ClassVar[str] = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        from reprogram.typecheck import check_call

        check_call(cls, args, kwargs)
        return super().__new__(cls)
