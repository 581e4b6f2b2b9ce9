"""Several surrogates in one search: which one is asked next follows from how well each predicted what was paid for.

The surrogates see other features and other values (raw scores, logs), so they are never averaged: each round is led by one,
drawn by weights: exp of the tempered log-likelihood of what was evaluated, older batches forgotten step by step. (MolLIBRA, arXiv
2602.07002, chooses among one Gaussian process a fingerprint while it runs.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from molecules.chemistry import Mol, parse
from molecules.search.model.count_gp import CountGP
from molecules.search.model.counts import CountRows
from molecules.search.model.features import Features
from molecules.search.model.fit_values import ScoreRange
from molecules.search.model.history import History, SurrogateModel
from molecules.search.model.tanimoto_gp import TanimotoGP
from reprogram.errors import ConfigError, nearest

FORGET = 0.98  # how much of the log-likelihood survives each evaluated molecule
TEMPER = 0.25  # of the log-likelihood: neighbours in a batch are no independent witnesses
LEAST = 0.1  # share of the rounds that every expert leads at least
SHARPEST = 0.02  # of the range of scores: better predictions than this count no more
REMEMBER = 100  # evaluated molecules on which predictions are recalibrated before they are compared
FAR = 5.0  # standard deviations at which a miss counts no worse
SLACK = 0.1  # a candidate that misses the constraints by no more may have children, but is never evaluated


class SurrogateExpert(ABC):
    """A surrogate with its own features and its own scale of values."""

    trust = 1.0  # how large its real errors are, in its own standard deviations
    least, most = 0.1, 1.5  # limits of ``trust``

    @property
    @abstractmethod
    def key(self) -> str:
        """Names what :meth:`read` returns; another key, other features."""

    @abstractmethod
    def read(self, mols: Sequence[Mol]) -> Any:
        """Features of molecules: an object with ``len``, ``take`` and ``joined``."""

    @abstractmethod
    def fit(self, history: History) -> None:
        """Learn from everything that was evaluated."""

    @abstractmethod
    def predict(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each row on the expert's own scale, float [N] each."""

    @abstractmethod
    def scores(self, means: np.ndarray, stds: np.ndarray, scale: ScoreRange) -> tuple[np.ndarray, np.ndarray]:
        """The same as shares of the range of scores so far."""

    @property
    @abstractmethod
    def unit(self) -> float:
        """What a candidate loses that misses the constraints by ``SLACK``."""

    @property
    @abstractmethod
    def best(self) -> float:
        """The highest value so far on the expert's own scale."""

    @abstractmethod
    def observed(self, history: History, count: int) -> np.ndarray:
        """Values of the last ``count`` molecules on the expert's own scale."""

    def calibrate(self, mean: np.ndarray, std: np.ndarray, found: np.ndarray) -> None:
        """Move ``trust`` towards the size of the errors of what was just evaluated."""
        rms = float(np.sqrt(np.median(((found - mean) / std) ** 2)) / 0.674)  # robust: a few total failures are normal
        share = 0.3 if len(found) >= 20 else 0.3 * len(found) / 20
        self.trust = float(np.clip((1 - share) * self.trust + share * rms, self.least, self.most))


class MixedExpert(SurrogateExpert):
    """Fingerprints and descriptors, their weights chosen by marginal likelihood, on logs of scores."""

    def __init__(self, points: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.model = SurrogateModel(points, rng)
        self._fitted: TanimotoGP | None = None
        self._best = 0.0

    @property
    def key(self) -> str:
        return "mixed " + " ".join(self._model.kernel.kinds())

    @property
    def _model(self) -> TanimotoGP:
        assert self._fitted is not None
        return self._fitted

    def read(self, mols: Sequence[Mol]) -> Features:
        return Features.of(mols, self._model.kernel.kinds())

    def fit(self, history: History) -> None:
        self._fitted = self.model.fit(history)
        self._best = float(history.values().max())

    def predict(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._model.predict(rows)

    def scores(self, means: np.ndarray, stds: np.ndarray, scale: ScoreRange) -> tuple[np.ndarray, np.ndarray]:
        return scale.from_values(means, stds)

    @property
    def unit(self) -> float:
        return self._model.scale

    @property
    def best(self) -> float:
        return self._best

    def observed(self, history: History, count: int) -> np.ndarray:
        return history.values()[-count:]


class CountExpert(SurrogateExpert):
    """ECFP6 counts with a min-max kernel and a fixed prior, on scores as shares of their range."""

    MOST = 1_400  # molecules in the process; beyond, it starts again with some of them
    KEPT: ClassVar[tuple[int, int, int]] = (700, 200, 100)  # best, latest, random

    def __init__(self, points: tuple[int, int, int], rng: np.random.Generator) -> None:
        self.rng = rng
        self._gp, self._inside, self._read = CountGP(), np.zeros(0, int), 0
        self._best = 0.0
        self._known = CountRows([])

    @property
    def key(self) -> str:
        return "counts"

    def read(self, mols: Sequence[Mol]) -> CountRows:
        return CountRows.of(mols)

    def fit(self, history: History) -> None:
        values = self._values(history)
        mols = [m for m in (parse(s.smiles) for s in history.scored[len(self._known) :]) if m is not None]
        new = CountRows.of(mols)
        added = np.arange(len(self._known), len(history))
        self._known = self._known.joined(new)
        if len(self._gp) + len(new) > self.MOST:
            self._inside, self._gp = np.zeros(0, int), CountGP()
            added = self._selected(values)
            new = self._known.take(added)
        self._gp.add(new)
        self._inside = np.r_[self._inside, added]
        self._gp.observe(values[self._inside])
        self._best = float(values.max())

    def _selected(self, values: np.ndarray) -> np.ndarray:
        best, latest, any_ = self.KEPT
        rows = np.union1d(np.argsort(-values, kind="stable")[:best], np.arange(max(len(values) - latest, 0), len(values)))
        rest = np.setdiff1d(np.arange(len(values)), rows)
        return np.union1d(rows, self.rng.permutation(rest)[:any_])

    def predict(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        return self._gp.predict(rows)

    def scores(self, means: np.ndarray, stds: np.ndarray, scale: ScoreRange) -> tuple[np.ndarray, np.ndarray]:
        return means, stds

    @property
    def unit(self) -> float:
        return 0.5

    @property
    def best(self) -> float:
        return self._best

    def observed(self, history: History, count: int) -> np.ndarray:
        return self._values(history)[-count:]

    def _values(self, history: History) -> np.ndarray:
        return history.scale().shares(history.raw()) - np.minimum(history.violations(), 1.0)


EXPERTS: dict[str, type[MixedExpert] | type[CountExpert]] = {"mixed": MixedExpert, "counts": CountExpert}


class Experts:
    """The surrogates of one search and their weights."""

    def __init__(self, names: Sequence[str], points: tuple[int, int, int], rng: np.random.Generator) -> None:
        for name in names:
            if name not in EXPERTS:
                raise ConfigError(f"search.experts has no '{name}'; {nearest(name, list(EXPERTS))}.")
        if not names:
            raise ConfigError(f"search.experts is empty; give at least one of {', '.join(EXPERTS)}.")
        self.names, self.rng = list(names), rng
        self.experts: list[SurrogateExpert] = [EXPERTS[name](points, rng) for name in names]
        self.likelihood = np.zeros(len(names))
        self._expected: list[tuple[np.ndarray, np.ndarray]] = []
        self._past = [(np.zeros(0), np.zeros(0)) for _ in names]  # predictions and values of the latest molecules

    @property
    def weights(self) -> np.ndarray:
        """Shares of the rounds that each leads, float [experts]."""
        return weights_of(self.likelihood)

    def fit(self, history: History) -> SurrogateExpert:
        """Every expert learns; the one that leads the next round is returned."""
        for expert in self.experts:
            expert.fit(history)
        if len(self.experts) == 1:
            return self.experts[0]
        return self.experts[int(self.rng.choice(len(self.experts), p=self.weights))]

    def expect(self, mols: Sequence[Mol]) -> None:
        """What each expects of the molecules that are evaluated next."""
        self._expected = [expert.predict(expert.read(mols)) for expert in self.experts]

    def forget_expected(self) -> None:
        """Nothing was predicted of the molecules that come next."""
        self._expected = []

    def learn(self, history: History, count: int) -> None:
        """Compare what each expected with the last ``count`` values; a batch of which some failed is skipped."""
        if not self._expected or len(self._expected[0][0]) != count:
            return
        scale = history.scale()
        found = scale.shares(history.raw()[-count:])
        for i, (expert, (mean, std)) in enumerate(zip(self.experts, self._expected)):
            shares, _ = expert.scores(mean, std, scale)
            told = recalibrated(*self._past[i], shares)
            self.likelihood[i] = FORGET**count * self.likelihood[i] + log_likelihood(found, *told)
            self._past[i] = tuple(np.r_[old, new][-REMEMBER:] for old, new in zip(self._past[i], (shares, found)))
            expert.calibrate(mean, std, expert.observed(history, count))


def recalibrated(past: np.ndarray, found: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions moved and stretched as earlier ones (``past``) should have been to meet what was ``found``, and the size
    of the errors that are left: float [N] each.

    A surrogate whose prior mean is 0 is always too low and may order molecules best; what counts is the order.
    """
    if len(past) < 5:
        return means, np.full(len(means), 0.1)
    far = past - past.mean()
    spread = float(far @ far)
    prior = 5 * SHARPEST**2 + 0.05 * spread
    slope = float((far @ (found - found.mean()) + prior) / (spread + prior))
    left = found - found.mean() - slope * far
    error = float(np.sqrt((left @ left + SHARPEST**2) / len(past)))
    return found.mean() + slope * (means - past.mean()), np.full(len(means), error)


def log_likelihood(found: np.ndarray, means: np.ndarray, stds: np.ndarray) -> float:
    """Gaussian log-likelihood of what was found; misses count as at most ``FAR`` standard deviations."""
    spread = np.hypot(stds, SHARPEST)
    misses = np.minimum(np.abs(found - means) / spread, FAR)
    return float((-np.log(spread) - 0.5 * misses**2).sum())


def weights_of(likelihood: np.ndarray) -> np.ndarray:
    """Tempered and normalised, none below ``LEAST``."""
    raw = np.exp(TEMPER * (likelihood - likelihood.max()))
    share = raw / raw.sum()
    return np.asarray(LEAST + (1 - LEAST * len(share)) * share)
