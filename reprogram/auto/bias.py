"""What the chosen program will really reach: the cross-validated estimate, corrected for having chosen the best.

Bootstrap bias corrected cross-validation (Tsamardinos, Greasidou & Borboudakis 2018, Machine Learning 107:1895): choose on
a bootstrap sample of the held-out predictions, score the choice on the examples outside it; no model is fitted again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Choose = Callable[[np.ndarray], int]  # errors [C, n] -> position of the winner
Metric = Callable[[np.ndarray, np.ndarray], float]  # (labels [n], predictions [n, T]) -> value


@dataclass(frozen=True)
class Estimate:
    """value: expected on new data. low, high: its 95% bootstrap interval. naive: without the correction."""

    value: float
    low: float
    high: float
    naive: float


def corrected(
    errors: np.ndarray,
    predictions: np.ndarray,
    labels: np.ndarray,
    metric: Metric,
    choose: Choose,
    seed: int = 0,
    draws: int = 300,
) -> Estimate:
    """errors [C, n] (what ``choose`` sees), predictions [C, n, T], labels [n] or [n, T]."""
    rng = np.random.default_rng(seed)
    size = errors.shape[1]
    values = []
    for _ in range(draws):
        inside = rng.integers(0, size, size)
        outside = np.setdiff1d(np.arange(size), inside)
        chosen = choose(errors[:, inside])
        value = metric(labels[outside], predictions[chosen][outside]) if len(outside) else np.nan
        if np.isfinite(value):
            values.append(value)
    best = choose(errors)
    naive = metric(labels, predictions[best])
    if not values:
        return Estimate(naive, naive, naive, naive)
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(float(np.mean(values)), float(low), float(high), float(naive))
