"""Thompson sampling: the best of one random draw of all candidates' values."""

from __future__ import annotations

import numpy as np

from molecules.search.acquisition.base import Acquisition


class Thompson(Acquisition):
    """Each candidate's value is drawn on its own; that neighbours rise and fall together is left out."""

    def values(self, means: np.ndarray, stds: np.ndarray, best: float, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(means + rng.standard_normal(len(means)) * stds)
