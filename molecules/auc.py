"""How fast a search improves: the PMO benchmark's area under the curve of the mean of the k best so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def top_mean(scores: Sequence[float] | np.ndarray, k: int) -> float:
    """Mean of the k best; NaN (no score, or infeasible) is left out; 0 where nothing is left."""
    values = np.asarray(scores, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return 0.0
    return float(np.sort(values)[::-1][:k].mean())


def auc_top(scores: Sequence[float] | np.ndarray, k: int, budget: int, every: int = 100) -> float:
    """Area under the top-k curve over ``budget`` calls, divided by ``budget`` (Gao et al. 2022, ``optimizer.py``).

    scores: in the order of the calls. The curve starts at 0, is taken every 100 calls and joined by straight lines;
    a run that ended early keeps its last value for the calls that it did not use.
    """
    values = np.asarray(scores, dtype=float)[:budget]
    if budget <= 0 or not len(values):
        return 0.0
    area = previous = 0.0
    called = 0
    for at in (*range(every, len(values), every), len(values)):
        now = top_mean(values[:at], k)
        area += (at - called) * (now + previous) / 2
        previous, called = now, at
    return (area + (budget - called) * previous) / budget
