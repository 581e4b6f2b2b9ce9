"""Gaussian process with a fixed prior on count fingerprints: mean 0, variance 1, noise 1e-4, nothing fitted.

The recipe of tuned GP-BO (Tripp and Hernandez-Lobato, arXiv 2406.07709). Molecules are added to its Cholesky factor; it is
not made anew.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from molecules.search.model.counts import GROW, CountRows, CountTable

NOISE = 1e-4


class CountGP:
    """``add`` molecules, ``observe`` their values, ``predict`` others."""

    def __init__(self) -> None:
        self.table = CountTable()
        self._lower = np.zeros((GROW, GROW))
        self._weights = np.zeros(0)

    def __len__(self) -> int:
        return self.table.size

    @property
    def factor(self) -> np.ndarray:
        """Lower Cholesky factor of the covariance with noise, float64 [N, N]."""
        return self._lower[: len(self), : len(self)]

    def add(self, rows: CountRows) -> None:
        """More molecules: only the new rows of the factor are computed."""
        if not len(rows):
            return
        before = len(self)
        old = self.factor
        across = self.table.similarity(rows)
        self.table.add(rows)
        within = self.table.similarity(rows)[:, before:]
        while len(self) > len(self._lower):
            self._lower = np.pad(self._lower, ((0, GROW), (0, GROW)))
        left = solve_triangular(old, across.T, lower=True, check_finite=False).T if before else across
        within[np.diag_indices_from(within)] += NOISE
        self._lower[before : len(self), :before] = left
        self._lower[before : len(self), before : len(self)] = cholesky(within - left @ left.T, lower=True)

    def observe(self, values: np.ndarray) -> None:
        """values: float [N], of all molecules in the order in which they were added."""
        self._weights = cho_solve((self.factor, True), values, check_finite=False)

    def predict(self, rows: CountRows) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the noise-free value: float [len(rows)] each."""
        cross = self.table.similarity(rows)
        explained = solve_triangular(self.factor, cross.T, lower=True, check_finite=False)
        variance = np.maximum(1.0 - np.einsum("nm,nm->m", explained, explained), 1e-9)
        return cross @ self._weights, np.sqrt(variance)
