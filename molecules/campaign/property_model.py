"""One measured property: experts weighted by what they say of left-out values, intervals calibrated on the same, bounds used.

The mixture is a stack of predictive distributions (Yao, Vehtari, Simpson & Gelman, Bayesian Analysis 13, 2018): the weights
maximise the likelihood of the left-out values, with a prior that keeps every expert in. Values such as ``<-4.5`` take part
with what is expected beyond the bound (Schmee & Hahn 1979), estimated by the model itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from molecules.campaign.experts import AveragedProcess, Expert, Prediction, RandomForest
from molecules.campaign.features import MoleculeFeatures
from reprogram.targets.censored import beyond

PRIOR = 2.0  # left-out values that speak for every expert alike
LEVEL = 0.9  # of the intervals that are calibrated
LEAST, MOST = 1.0, 2.5  # factor of the standard deviations
BOUND_STEPS = 3
FEWEST = 4  # measured values that a model needs
WIDE = 100.0  # ratio of the largest to the smallest value from which logarithms are modelled


@dataclass(frozen=True)
class Scale:
    """How the values of a column are modelled: as they are, or as logarithms to the base 10."""

    log: bool = False

    @classmethod
    def of(cls, values: np.ndarray, choice: bool | None = None) -> Scale:
        """choice: as the user says; None: logarithms where all values are positive and they span two powers of ten."""
        known = values[np.isfinite(values)]
        if choice is None:
            choice = bool(len(known) and known.min() > 0 and known.max() >= WIDE * known.min())
        return cls(choice)

    def to_model(self, values: np.ndarray | float) -> np.ndarray:
        """-inf for the logarithm of what is not positive."""
        found = np.asarray(values, dtype=float)
        if not self.log:
            return found
        return np.log10(np.maximum(found, 0.0), out=np.full(found.shape, -np.inf), where=found > 0)

    def to_user(self, values: np.ndarray | float) -> np.ndarray:
        """Back in the units of the column."""
        found = np.asarray(values, dtype=float)
        return 10.0 ** np.clip(found, -300, 300) if self.log else found


class PropertyModel:
    """``fit`` on measured values, ``predict`` for candidates; calibrated standard deviations.

    weights: of the Gaussian process and of the forest. factor: of their standard deviations. left_out: what is said of each
    measured molecule without its value, calibrated.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(
        self,
        features: MoleculeFeatures,
        values: np.ndarray,
        sides: np.ndarray | None = None,
        past: Sequence[float] = (),
    ) -> PropertyModel:
        """values: float [N] on the model's scale. sides: int8 [N], -1 where the value is an upper bound, 1 a lower one.
        past: errors of earlier rounds' predictions in their own uncalibrated standard deviations."""
        plain = np.ones(len(values), dtype=bool) if sides is None else sides == 0
        found = values.astype(float).copy()
        self._fit(features, found, plain)
        if sides is not None and not plain.all():
            for _ in range(BOUND_STEPS):
                expected, at = self._raw_left_out(), ~plain
                found[at] = beyond(values[at], sides[at], expected.mean[at], expected.spread[at])  # type: ignore[arg-type]
                self._fit(features, found, plain)
        raw = self._raw_left_out()
        errors = np.abs(found - raw.mean)[plain] / raw.spread[plain]
        self.factor = calibration(np.concatenate([errors, np.abs(np.asarray(past, dtype=float))]))
        self.left_out = self._calibrated(raw)
        self.values, self.plain = found, plain
        return self

    def _fit(self, features: MoleculeFeatures, values: np.ndarray, plain: np.ndarray) -> None:
        self.experts: list[Expert] = [
            AveragedProcess().fit(features, values),
            RandomForest(self.seed).fit(features, values),
        ]
        said = [expert.left_out for expert in self.experts]
        density = np.array([-np.log(p.spread) - 0.5 * ((values - p.mean) / p.spread) ** 2 for p in said])
        self.weights = stacked(density[:, plain])

    def predict(self, features: MoleculeFeatures) -> Prediction:
        """Calibrated, on the model's scale."""
        return self._calibrated(mixture([e.predict(features) for e in self.experts], self.weights))

    def _raw_left_out(self) -> Prediction:
        return mixture([expert.left_out for expert in self.experts], self.weights)

    def _calibrated(self, found: Prediction) -> Prediction:
        return Prediction(found.mean, self.factor * found.std, self.factor * found.spread)


def mixture(parts: Sequence[Prediction], weights: np.ndarray) -> Prediction:
    """Mean and standard deviations of the weighted mixture of normal distributions."""
    means = np.array([p.mean for p in parts])
    mean = weights @ means
    between = weights @ (means - mean) ** 2
    std, spread = (np.sqrt(weights @ np.array([getattr(p, n) ** 2 for p in parts]) + between) for n in ("std", "spread"))
    return Prediction(mean, std, spread)


def stacked(density: np.ndarray, steps: int = 60) -> np.ndarray:
    """Weights [E] of experts from their log densities of left-out values [E, N], by expectation and maximisation."""
    weights = np.full(len(density), 1 / len(density))
    for _ in range(steps):
        log = np.log(weights)[:, None] + density
        share = np.exp(log - log.max(0))
        weights = (share / share.sum(0)).sum(1) + PRIOR
        weights /= weights.sum()
    return weights


def calibration(errors: np.ndarray) -> float:
    """Factor of standard deviations under which ``LEVEL`` of absolute standardised errors lie inside, and one more
    (conformal, as in :mod:`reprogram.prediction.conformal`); between ``LEAST`` and ``MOST``."""
    if not len(errors):
        return 1.0
    rank = min(math.ceil((len(errors) + 1) * LEVEL), len(errors))
    return float(np.clip(np.sort(errors)[rank - 1] / half_width(LEVEL), LEAST, MOST))


def half_width(level: float) -> float:
    """Of a central interval of the normal distribution, in standard deviations: 1.645 for 0.9."""
    return float(ndtri(0.5 + level / 2))
