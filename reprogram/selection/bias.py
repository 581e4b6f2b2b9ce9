"""What the chosen program will really reach: the cross-validated value, corrected twice, with an interval for a test value.

1. For having chosen the best: bootstrap bias corrected cross-validation (Tsamardinos, Greasidou & Borboudakis 2018, Machine
   Learning 107:1895). Choose on a bootstrap sample of the held-out predictions, score the choice on the examples outside it;
   no model is fitted again.
2. For having learned from fewer labels: what a fold holds out is missing from its training part, and it is missing from its
   own class. With three examples a class a held-out one meets a class that lost a third of its examples, among others that
   lost none; on twenty topics and 64 labels that alone costs ten points. A doubling of the labels wins about a share ``GAIN``
   of what is missing (few-label curves in docs/results).

The interval is one for the value on a test set of ``TEST`` examples, not for the mean: it holds the noise of the held-out
examples, of the test examples, of the draw of the labels (a program is worse or better than the average one of its kind) and
of the second correction. Errors of values have heavy tails that few examples do not show, so that its upper end is stretched.
How often it holds: docs/results/forecast.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reprogram.evaluation.metrics import LOWER_IS_BETTER

Choose = Callable[[np.ndarray], int]  # errors [C, n] -> position of the winner
Metric = Callable[[np.ndarray, np.ndarray], float]  # (labels [n], predictions [n, T]) -> value

LEVEL = 0.95  # share of test values that the interval is to hold
GAIN = 0.2  # share of the missing accuracy or area that a doubling of the labels wins
FALL = 0.1  # share of the error of values that a doubling of the labels takes away
DRAW = 0.5  # variance between draws of the labels, in variances of the held-out mean
DOUBT = 0.5  # standard deviation of the second correction, as a share of it
TEST = 500  # examples of a test set
TAILS = 6.0  # least kurtosis of errors of values (3: normal)
STRETCH = 1.5  # of the upper end for errors of values


@dataclass(frozen=True)
class Estimate:
    """value: expected on new data. low, high: the interval in which a test value lies with probability ``level``. naive:
    the best cross-validated value as it is."""

    value: float
    low: float
    high: float
    naive: float
    level: float = LEVEL


def corrected(
    errors: np.ndarray,
    predictions: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    choose: Choose,
    seed: int = 0,
    draws: int = 300,
    fewer: float = 0.0,
) -> Estimate:
    """errors [C, n] (what ``choose`` sees), predictions [C, n, T], labels [n] or [n, T].

    fewer: binary logarithm of the share of its own class that a held-out example's program learned from (at most 0).
    """
    rng = np.random.default_rng(seed)
    size = errors.shape[1]
    falls = metric.__name__ in LOWER_IS_BETTER
    best = choose(errors)
    naive = metric(labels, predictions[best])
    outside, winner = [], []
    for _ in range(draws):
        inside = rng.integers(0, size, size)
        left = np.setdiff1d(np.arange(size), inside)
        if len(left):
            outside.append(metric(labels[left], predictions[choose(errors[:, inside])][left]))
        winner.append(metric(labels[inside], predictions[best][inside]))
    found = np.array([value for value in outside if np.isfinite(value)])
    if not len(found):
        return Estimate(naive, naive, naive, naive)
    if falls:
        return _of_errors(math.sqrt(float(np.mean(found**2))), naive, labels, predictions[best], winner, fewer)
    return _of_shares(float(found.mean()), naive, size, winner, fewer)


def _of_shares(value: float, naive: float, size: int, winner: list[float], fewer: float) -> Estimate:
    """Accuracy and areas, which lie in [0, 1]: the interval is one of their logits."""
    gain = GAIN * (1.0 - value) * -fewer
    value = min(value + gain, 1.0)
    known = np.array([v for v in winner if np.isfinite(v)])
    typical = (value * size + 2.0) / (size + 4.0)  # a perfect score on few examples is no certainty
    least = math.sqrt(typical * (1.0 - typical) / size)
    spread = max(float(known.std()) if len(known) else 0.0, 0.5 * least)
    half = quantile(size) * math.hypot(spread * math.sqrt(1.0 + DRAW + size / TEST), DOUBT * gain)
    middle = float(np.clip(value, 0.5 / size, 1.0 - 0.5 / size))
    logit, slope = math.log(middle / (1.0 - middle)), typical * (1.0 - typical)
    low, high = (1.0 / (1.0 + math.exp(-(logit + sign * half / slope))) for sign in (-1.0, 1.0))
    return Estimate(value, min(low, value), max(high, value), naive)


def _of_errors(
    value: float, naive: float, labels: np.ndarray, predictions: np.ndarray, winner: list[float], fewer: float
) -> Estimate:
    """Errors of values, which are positive: the interval is one of their logarithms."""
    change = FALL * fewer
    value *= 1.0 + change
    size = len(labels)
    residual = labels.reshape(size, -1) - predictions.reshape(size, -1)
    squares = np.square(residual).mean(1)
    kurtosis = max(TAILS, float((squares**2).mean() / max(squares.mean() ** 2, 1e-300)))
    known = np.log(np.maximum([v for v in winner if np.isfinite(v)], 1e-300))
    spread = max(float(known.std()) if len(known) else 0.0, math.sqrt((kurtosis - 1.0) / (4.0 * size)))
    half = quantile(size) * math.hypot(spread * math.sqrt(1.0 + DRAW + size / TEST), DOUBT * change)
    return Estimate(value, value * math.exp(-half), value * math.exp(STRETCH * half), naive)


def quantile(size: int) -> float:
    """Of Student's distribution, for ``LEVEL``."""
    from scipy.stats import t

    return float(t.ppf(0.5 + LEVEL / 2, max(size - 1, 1)))
