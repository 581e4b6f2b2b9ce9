"""From a raw value to a part of the score in [0, 1]: the shapes that REINVENT's users know, and Gaussians of GuacaMol.

Formulas: REINVENT4 ``SCORING.md`` (sigmoids with the exponent scaled by ten and base 10), GuacaMol (Brown et al. 2019)
for ``gaussian`` and ``clipped``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from reprogram.errors import ConfigError


class Transform(ABC):
    """A function of one raw value; NaN in, NaN out."""

    def __call__(self, value: float) -> float:
        return value if math.isnan(value) else self.of(value)

    @abstractmethod
    def of(self, value: float) -> float:
        """The transformed value of a finite number."""


def _power(exponent: float) -> float:
    return 10.0 ** min(max(exponent, -300.0), 300.0)


def _ordered(low: float, high: float) -> None:
    if not low < high:
        raise ConfigError(f"a transform has low={low} and high={high}; low must be smaller than high.")


@dataclass
class Identity(Transform):
    """The value itself."""

    def of(self, value: float) -> float:
        return value


@dataclass
class Sigmoid(Transform):
    """Rises from 0 at ``low`` to 1 at ``high``; ``k`` is the steepness."""

    low: float
    high: float
    k: float = 0.5

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)

    def of(self, value: float) -> float:
        middle = (self.low + self.high) / 2
        return 1 / (1 + _power(-10 * self.k * (value - middle) / (self.high - self.low)))


@dataclass
class ReverseSigmoid(Sigmoid):
    """Falls from 1 at ``low`` to 0 at ``high``."""

    def of(self, value: float) -> float:
        return 1 - super().of(value)


@dataclass
class DoubleSigmoid(Transform):
    """1 between ``low`` and ``high``, 0 outside."""

    low: float
    high: float
    coef_div: float = 100.0
    coef_si: float = 150.0
    coef_se: float = 150.0

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)

    def of(self, value: float) -> float:
        rise = 1 / (1 + _power(-self.coef_se * (value - self.low) / self.coef_div))
        fall = 1 / (1 + _power(-self.coef_si * (value - self.high) / self.coef_div))
        return rise - fall


@dataclass
class Step(Transform):
    """1 inside [``low``, ``high``], 0 outside; leave one open for a left or right step."""

    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)

    def of(self, value: float) -> float:
        return float(self.low <= value <= self.high)


@dataclass
class Gaussian(Transform):
    """exp(-((value - mu) / sigma)^2 / 2); ``side`` ``min`` is 1 below ``mu``, ``max`` is 1 above it."""

    mu: float
    sigma: float
    side: str = "both"

    def __post_init__(self) -> None:
        if self.sigma <= 0 or self.side not in ("both", "min", "max"):
            raise ConfigError(f"gaussian needs sigma > 0 and side both, min or max; found {self.sigma}, {self.side!r}.")

    def of(self, value: float) -> float:
        if (self.side == "min" and value < self.mu) or (self.side == "max" and value > self.mu):
            return 1.0
        return math.exp(-0.5 * ((value - self.mu) / self.sigma) ** 2)


@dataclass
class Clipped(Transform):
    """Linear from ``low`` (0) to ``high`` (1), flat outside; ``high`` below ``low`` makes it fall."""

    high: float
    low: float = 0.0

    def __post_init__(self) -> None:
        if self.high == self.low:
            raise ConfigError(f"clipped has low = high = {self.low}; they must differ.")

    def of(self, value: float) -> float:
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


@dataclass
class ExponentialDecay(Transform):
    """exp(-k value) for values from 0 on, 1 below."""

    k: float = 1.0

    def of(self, value: float) -> float:
        return math.exp(-self.k * max(value, 0.0))


@dataclass
class ValueMap(Transform):
    """Given values for given raw values (counts, classes); ``default`` for all others."""

    values: Sequence[Sequence[float]] = field(default_factory=list)
    default: float = 0.0

    def of(self, value: float) -> float:
        return next((float(to) for raw, to in self.values if math.isclose(raw, value)), self.default)
