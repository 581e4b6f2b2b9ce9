"""Upper confidence bound: mean + beta x standard deviation."""

from __future__ import annotations

import numpy as np

from molecules.search.acquisition.base import Acquisition


class UCB(Acquisition):
    """beta = |N(0, 1)|, drawn for each choice: a batch holds safe and bold candidates."""

    def values(self, means: np.ndarray, stds: np.ndarray, best: float, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(means + abs(rng.standard_normal()) * stds)
