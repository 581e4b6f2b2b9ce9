"""Exact Gaussian process over molecules: Tanimoto kernels on fingerprints, smooth kernels on descriptors.

A weighted sum of four kernels; the weights and the fingerprint are chosen by marginal likelihood. Noise grows with the
distance to the best value, so the fit is close near the best molecules and loose elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from molecules.chemistry import tanimoto
from molecules.search.model.features import Features

JITTER = 1e-3  # relative noise of the best points
LOOSE = 0.01  # relative noise added per squared distance (in standard deviations) to the best


class Kernel(NamedTuple):
    """Weights of the parts: Tanimoto on fingerprint ``kind``, Tanimoto on atom pairs, RBF and quadratic on descriptors."""

    kind: str
    prints: float
    pairs: float
    smooth: float
    quadratic: float

    def kinds(self) -> list[str]:
        """Fingerprints that must be computed for it."""
        return [k for k, w in ((self.kind, self.prints), ("ap", self.pairs)) if w > 0]


MIXES = (
    (0.9, 0.0, 0.05, 0.05),
    (0.5, 0.3, 0.1, 0.1),
    (0.25, 0.10, 0.15, 0.50),
    (0.10, 0.05, 0.15, 0.70),
    (0.04, 0.03, 0.13, 0.80),
)
KINDS = ("ecfp4", "ecfp6", "fcfp4")
CANDIDATES = [Kernel(kind, *mix) for kind in KINDS for mix in MIXES] + [
    Kernel("ap", 0.0, w, s, s) for w, s in ((0.9, 0.05), (0.4, 0.3))
]


class TanimotoGP:
    """``fit`` on features and values, ``predict`` mean and standard deviation. scale: standard deviation of the values."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def fit(
        self, features: Features, values: np.ndarray, similarities: dict[str, np.ndarray] | None = None
    ) -> TanimotoGP:
        """features: N rows; values: float [N], finite; similarities: Tanimoto matrices [N, N] by fingerprint, if known.

        Keeps the log marginal likelihood in ``evidence``.
        """
        self._features = features
        self._center, self._scale = features.descriptors.mean(0), features.descriptors.std(0) + 1e-9
        self._rows = self._standard(features.descriptors)
        self.mean, self.scale = float(values.mean()), float(values.std()) or 1.0
        y = (values - self.mean) / self.scale
        covariance = self._covariance(features, self._rows, similarities or {})
        covariance[np.diag_indices_from(covariance)] += JITTER + LOOSE * (y.max() - y) ** 2
        self._factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        self._weights = cho_solve((self._factor, True), y, check_finite=False)
        self._amplitude = max(float(y @ self._weights) / len(y), 1e-6)  # the likelihood's own best scale
        self.evidence = -0.5 * len(y) * np.log(self._amplitude) - float(np.log(np.diag(self._factor)).sum())
        return self

    def predict(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the noise-free value at M new rows: float [M] each."""
        rows = self._standard(features.descriptors)
        cross = self._covariance(features, rows, {})
        mean = cross @ self._weights
        explained = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
        variance = np.maximum(self._own(rows) - np.einsum("nm,nm->m", explained, explained), 1e-9)
        return self.mean + self.scale * mean, self.scale * np.sqrt(self._amplitude * variance)

    def _standard(self, descriptors: np.ndarray) -> np.ndarray:
        return np.clip((descriptors - self._center) / self._scale, -4, 4)

    def _covariance(self, features: Features, rows: np.ndarray, known: dict[str, np.ndarray]) -> np.ndarray:
        kernel, other = self.kernel, self._features
        size = rows.shape[1]
        product = rows @ self._rows.T
        total = kernel.quadratic * (0.5 + product / (2 * size)) ** 2
        squares = (rows**2).sum(1)[:, None] + (self._rows**2).sum(1)[None, :] - 2 * product
        total += kernel.smooth * np.exp(-squares / (2 * size))
        for kind, weight in ((kernel.kind, kernel.prints), ("ap", kernel.pairs)):
            if weight > 0:
                alike = known.get(kind)
                total += weight * (
                    tanimoto(features.fingerprints[kind], other.fingerprints[kind]) if alike is None else alike
                )
        return total

    def _own(self, rows: np.ndarray) -> np.ndarray:
        kernel = self.kernel
        size = rows.shape[1]
        constant = kernel.prints + kernel.pairs + kernel.smooth
        return constant + kernel.quadratic * (0.5 + (rows**2).sum(1) / (2 * size)) ** 2


def best_kernel(features: Features, values: np.ndarray, candidates: Sequence[Kernel] = CANDIDATES) -> Kernel:
    """The candidate with the highest marginal likelihood; ``features`` must hold all fingerprints."""
    similarities = {kind: tanimoto(rows, rows) for kind, rows in features.fingerprints.items()}
    return max(candidates, key=lambda kernel: TanimotoGP(kernel).fit(features, values, similarities).evidence)
