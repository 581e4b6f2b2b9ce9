"""Scores as a Gaussian process likes them."""

from __future__ import annotations

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
