"""Expected improvement over the best value so far (Jones, Schonlau and Welch 1998)."""

from __future__ import annotations

import numpy as np
from scipy.special import log_ndtr

from molecules.search.acquisition.base import Acquisition


class ExpectedImprovement(Acquisition):
    """Its logarithm: candidates without a chance are still in order, where the plain value would be 0 for all."""

    def values(self, means: np.ndarray, stds: np.ndarray, best: float, rng: np.random.Generator) -> np.ndarray:
        return log_expected_improvement(means, stds, best)


def log_expected_improvement(means: np.ndarray, stds: np.ndarray, best: float) -> np.ndarray:
    """log E[max(f - best, 0)], float [N]: log std + log(phi(z) + z Phi(z)) with z = (mean - best) / std."""
    stds = np.maximum(stds, 1e-12)
    z = (means - best) / stds
    density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    # phi + z Phi = phi (1 + z Phi / phi); for z << 0 the bracket tends to 1 / z^2
    ratio = np.exp(np.minimum(log_ndtr(z) - density, 700))
    bracket = np.where(z > -30, 1 + z * ratio, 1 / np.maximum(z**2, 1.0))
    return np.asarray(np.log(stds) + density + np.log(np.maximum(bracket, 1e-300)))
