"""Scores as a Gaussian process likes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DEPTH = 12.0  # natural logs below the best that still count


def to_fit(scores: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Log scores where all are >= 0 (products of parts become sums), plain scores otherwise; violations pull down.

    Logs are cut ``DEPTH`` below the best: what is further away is simply bad.
    """
    if len(scores) and scores.min() >= 0 and scores.max() > 0:
        values = np.log(np.maximum(scores, 1e-300))
        values = np.maximum(values, values.max() - DEPTH)
    else:
        values = scores.copy()
    return values - violations * max(float(values.std()), 1e-6)


class ScoreRange(NamedTuple):
    """The range of scores: 0 to 1 where they lie in it, else from the lowest to the highest so far."""

    low: float
    high: float
    logs: bool  # does :func:`to_fit` take logarithms?

    @classmethod
    def of(cls, scores: np.ndarray) -> ScoreRange:
        low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 1.0)
        logs = low >= 0 and high > 0
        return cls(0.0, 1.0, logs) if low >= 0 and high <= 1 else cls(low, high if high > low else low + 1, logs)

    def shares(self, scores: np.ndarray) -> np.ndarray:
        """Scores as shares of the range."""
        return (scores - self.low) / (self.high - self.low)

    def from_values(self, means: np.ndarray, stds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is expected of values of :func:`to_fit`, as shares of the range (to first order)."""
        if self.logs:
            means = np.exp(np.minimum(means, np.log(2 * self.high)))
            stds = means * stds
        return self.shares(means), stds / (self.high - self.low)
