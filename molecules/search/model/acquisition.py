"""Which candidates are evaluated next: one at a time by mean + |N(0, 1)| x standard deviation.

A batch chosen in this way holds safe and bold candidates.
"""

from __future__ import annotations

import numpy as np

RANDOM = 0.3  # share of a batch that is drawn at random while the search is stuck


def choose(
    means: np.ndarray, stds: np.ndarray, feasible: np.ndarray, count: int, weight: float, stuck: bool, rng: np.random.Generator
) -> list[int]:  # seven arrays and numbers of one formula; a class would only rename them
    """Rows to evaluate now, at most ``count`` of the feasible ones.

    means, stds: float [N], what is expected of each candidate. feasible: bool [N]. weight: of the standard deviation.
    stuck: a share of the batch is drawn at random, because the surrogate has led nowhere for a while.
    """
    free, rows = feasible.copy(), np.flatnonzero(feasible)
    chosen: list[int] = []
    for at in rng.permutation(rows)[: int(stuck * RANDOM * count)].tolist():
        chosen.append(at)
        free[at] = False
    for _ in range(min(count, len(rows)) - len(chosen)):
        value = np.where(free, means + weight * abs(rng.standard_normal()) * stds, -np.inf)
        chosen.append(int(value.argmax()))
        free[chosen[-1]] = False
    return chosen
