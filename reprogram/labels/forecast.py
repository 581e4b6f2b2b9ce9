"""What accuracy to expect with these labels and with twice as many, when no labelled test set exists.

Accuracy is read on the scale of skill, 0 for guessing and 1 for always right, in log-odds, so that two classes and ten are
alike. Two witnesses: how sure the program is over the pool is a prior, for skill is a little above it, with a wide spread.
How many labelled examples the rest predicts rightly is the likelihood, of little weight while labels are few, because labels
that were chosen to be unlike each other cannot foresee each other. Doubling the labels adds a gain that shrinks with the
labels a class (a power law of the odds; Hestness et al. 2017, arXiv 1712.00409, for the form). The constants were chosen on
other draws of digits, CIFAR-10, BBBP and AMP; how far they hold is in ``docs/results/label_budget.md``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

GRID = np.linspace(-5.0, 6.0, 441)  # log-odds of the skill
SURE_OFFSET, SURE_SPREAD = 0.3, 0.5  # log-odds of skill above those of the mean confidence
HALF_TRUST = 40.0  # foreseeable labels at which they count half
GAIN, GAIN_FEW, GAIN_SPREAD = 0.1, 0.5, 0.35  # log-odds of a doubling: GAIN + GAIN_FEW / √(labels a class)
NORMAL_95 = 1.959964
NOT_WORTH = 0.01  # expected gain of a doubling below which more labels are not worth it


@dataclass(frozen=True)
class Evidence:
    """What a program knows of itself without a test set.

    labels: n. classes: T. foreseen, foreseeable: labelled examples that the rest predicts rightly, and those whose class
    has another example. confidence: mean largest probability over the pool.
    """

    labels: int
    classes: int
    foreseen: int
    foreseeable: int
    confidence: float

    @classmethod
    def of(cls, left_out: np.ndarray, labels: np.ndarray, pool: np.ndarray) -> Evidence:
        """left_out [n, T] (NaN rows were never left out), labels [n], pool [N, T]: probabilities."""
        counts = np.bincount(labels, minlength=left_out.shape[1])
        seen = (counts[labels] > 1) & np.isfinite(left_out).all(1)
        right = left_out[seen].argmax(1) == labels[seen]
        return cls(len(labels), len(counts), int(right.sum()), int(seen.sum()), float(pool.max(1).mean()))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Span:
    """An expected accuracy and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """now: with the labels at hand. twice: with as many again. worth: whether the expected gain pays for the labels."""

    now: Span
    twice: Span

    @property
    def worth(self) -> bool:
        """Is the gain expected from twice the labels large enough to be worth them?"""
        return self.twice.value - self.now.value >= NOT_WORTH


def forecast(evidence: Evidence) -> Forecast:
    """Raises ValueError for fewer than two classes or no label."""
    if evidence.classes < 2 or evidence.labels < 1:
        raise ValueError(f"a forecast needs labels of two classes or more, here: {evidence}")
    classes = evidence.classes
    sure = _skill(evidence.confidence, classes)
    belief = -0.5 * ((GRID - SURE_OFFSET - sure) / SURE_SPREAD) ** 2
    right = _accuracy(GRID, classes)
    trust = evidence.foreseeable / (evidence.foreseeable + HALF_TRUST)
    missed = evidence.foreseeable - evidence.foreseen
    belief = belief + trust * (evidence.foreseen * np.log(right) + missed * np.log1p(-right))
    chance = np.exp(belief - belief.max())
    chance /= chance.sum()
    middle = float(chance @ GRID)
    spread = float(chance @ (GRID - middle) ** 2)
    gain = GAIN + GAIN_FEW / np.sqrt(max(evidence.labels / classes, 0.25))
    return Forecast(_span(middle, spread, classes), _span(middle + gain, spread + GAIN_SPREAD**2, classes))


def _span(middle: float, variance: float, classes: int) -> Span:
    half = NORMAL_95 * variance**0.5
    value, low, high = _accuracy(np.array([middle, middle - half, middle + half]), classes)
    return Span(float(value), float(low), float(high))


def _accuracy(skill: np.ndarray, classes: int) -> np.ndarray:
    """From log-odds of the skill."""
    return 1.0 / classes + (1.0 - 1.0 / classes) / (1.0 + np.exp(-skill))


def _skill(accuracy: float, classes: int) -> float:
    """Log-odds of the skill; what is no better than guessing has a little."""
    share = float(np.clip((accuracy * classes - 1.0) / (classes - 1.0), 0.02, 0.995))
    return float(np.log(share / (1.0 - share)))
