"""Bounds instead of values (``<-4.5``): an estimate of what was not measured, made from the training labels alone.

The iterative least squares of Schmee and Hahn (A simple method for regression analysis with censored data, Technometrics 21,
1979): fit, replace each bound by the value expected beyond it, E[y | y < bound] = mu - s phi(z) / Phi(z) with
z = (bound - mu) / s, and repeat. The regression is a ridge on the domain's plain features; mu is each example's left-out
prediction, s the left-out error on measured values. A program then learns from ordinary numbers, whatever method it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import log_ndtr

from reprogram.interfaces import Featuriser

MOST_FITTED = 1500  # examples of the ridge, whose cost grows with their cube; others are predicted
STEPS = 30
RIDGES = np.logspace(-3, 3, 13)


def estimate_beyond(
    values: np.ndarray, sides: np.ndarray, strings: list[str], featurisers: Iterable[Featuriser], seed: int = 0
) -> np.ndarray:
    """float [N, T] of ``values`` with every bound (``sides`` [N, T]: -1 upper, 1 lower) replaced by an estimate beyond it."""
    features = _features(strings, featurisers)
    columns = [_column(values[:, t].astype(float), sides[:, t], features, seed) for t in range(values.shape[1])]
    return np.stack(columns, axis=1).astype(values.dtype)


def _column(values: np.ndarray, sides: np.ndarray, features: np.ndarray, seed: int) -> np.ndarray:
    known, bounded = np.flatnonzero(~np.isnan(values)), sides != 0
    measured = known[~bounded[known]]
    if len(measured) < 2 or not bounded[known].any():
        return values
    fitted = known
    if len(known) > MOST_FITTED:
        fitted = np.sort(np.random.default_rng(seed).permutation(known)[:MOST_FITTED])
    smoother = _Smoother(features[fitted], features)
    plain = ~bounded[fitted]
    smoother.choose(values[fitted], plain)
    found = values.copy()
    for _ in range(STEPS):
        expected = smoother.left_out(found[fitted])
        error = values[fitted][plain] - expected[plain]
        spread = max(float(np.sqrt(np.mean(error**2))), 1e-12)
        everywhere = smoother.predict(found[fitted])
        everywhere[fitted] = expected
        at = known[bounded[known]]
        before, found[at] = found[at], beyond(values[at], sides[at], everywhere[at], spread)
        if np.abs(found[at] - before).max() < 1e-3 * spread:
            break
    return found


def beyond(bounds: np.ndarray, sides: np.ndarray, mean: np.ndarray, spread: float) -> np.ndarray:
    """[n] expected value beyond each bound, of normal values around ``mean`` with the standard deviation ``spread``."""
    z = -sides * (bounds - mean) / spread
    ratio = np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(z))  # phi / Phi, right in the far tail
    expected = mean + sides * spread * ratio
    return np.where(sides < 0, np.minimum(expected, bounds), np.maximum(expected, bounds))


class _Smoother:
    """Ridge regression in its dual form: one decomposition, then every ridge and every left-out prediction is a product."""

    def __init__(self, fitted: np.ndarray, everywhere: np.ndarray) -> None:
        middle, scale = fitted.mean(0), fitted.std(0)
        scale[scale == 0] = 1.0
        self.inside, self.outside = (fitted - middle) / scale, (everywhere - middle) / scale
        width = np.sqrt(max(fitted.shape[1], 1))
        self.inside, self.outside = self.inside / width, self.outside / width
        self.values, self.vectors = np.linalg.eigh(self.inside @ self.inside.T)
        self.values = np.maximum(self.values, 0.0)
        self.ridge = 1.0

    def choose(self, targets: np.ndarray, plain: np.ndarray) -> None:
        """The ridge with the least left-out error on the values that were measured."""
        errors = []
        for self.ridge in RIDGES:
            errors.append(np.mean((targets - self.left_out(targets))[plain] ** 2))
        self.ridge = float(RIDGES[int(np.argmin(errors))])

    def left_out(self, targets: np.ndarray) -> np.ndarray:
        shrink = self.values / (self.values + self.ridge)
        mean = targets.mean()
        smooth = mean + self.vectors @ (shrink * (self.vectors.T @ (targets - mean)))
        own = np.minimum((self.vectors**2) @ shrink + 1 / len(targets), 0.999)
        return targets - (targets - smooth) / (1 - own)

    def predict(self, targets: np.ndarray) -> np.ndarray:
        mean = targets.mean()
        dual = self.vectors @ ((self.vectors.T @ (targets - mean)) / (self.values + self.ridge))
        return mean + self.outside @ (self.inside.T @ dual)


def _features(strings: list[str], featurisers: Iterable[Featuriser]) -> np.ndarray:
    parts = [np.zeros((len(strings), 1))]
    for featuriser in featurisers:
        featuriser.fit(strings)
        part = np.asarray(featuriser(strings), dtype=np.float32)
        parts.append(part[:, part.std(0) > 0].astype(np.float32))
    return np.concatenate(parts, axis=1)
