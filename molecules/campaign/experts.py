"""Predictors from few measured values that know how unsure they are: an averaged Gaussian process, and a random forest.

Each expert tells, for molecules and for its own measured ones without their values, the mean, the standard deviation of the
true value and that of a new measurement.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from scipy import sparse

from molecules.campaign.features import KINDS, MoleculeFeatures, similarities

LENGTHS = (0.5, 1.0, 2.0)  # of the radial kernel, in root mean squares over all descriptors
NOISES = np.logspace(-3, 0.7, 12)  # variance of the noise, of that of the kernel
FARTHEST = 4.0  # standard deviations of a descriptor; beyond, a molecule is as far as one can be
TEMPER = 0.5  # power of the marginal likelihood: it is sharper than few values can justify
AVERAGED = 20  # kernels with their noise that are averaged
MOST_CHOOSING, MOST_FITTED = 500, 1500  # measured molecules that the kernels are chosen on, and fitted on
TREES = 100
COLUMNS = 256  # counted fragments that the trees see
TREE_NOISE = 0.7  # share of a left-out error that no tree can explain which is noise of the measurement
CHUNK = 2000  # molecules predicted at a time


class Prediction(NamedTuple):
    """mean [N]; std [N] of the true value; spread [N] of a new measurement of it."""

    mean: np.ndarray
    std: np.ndarray
    spread: np.ndarray


class Expert(Protocol):
    """left_out: what is said of each measured molecule without its own value."""

    left_out: Prediction

    def fit(self, features: MoleculeFeatures, values: np.ndarray) -> Expert: ...

    def predict(self, features: MoleculeFeatures) -> Prediction: ...


class Standard:
    """Descriptors in standard deviations around the mean of the measured molecules; those that do not vary are left out."""

    def __init__(self, descriptors: np.ndarray) -> None:
        table = descriptors.astype(float)
        self.centre, scale = table.mean(0), table.std(0)
        self.moves = scale > 1e-6
        self.scale = scale[self.moves]

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        rows = (descriptors[:, self.moves].astype(float) - self.centre[self.moves]) / self.scale
        return np.clip(rows, -FARTHEST, FARTHEST)


Mix = dict[str, float]  # weights of base kernels: a kind of fingerprint, "radial LENGTH", "linear"


def mixes() -> list[Mix]:
    """Every fingerprint and every kernel on descriptors alone, in pairs and in threes."""
    smooth = [*(f"radial {length:g}" for length in LENGTHS), "linear"]
    found: list[Mix] = [{name: 1.0} for name in (*KINDS, *smooth)]
    found += [{kind: w, name: 1 - w} for kind in KINDS for name in smooth for w in (0.25, 0.5, 0.75)]
    both = dict.fromkeys(KINDS, 0.5 / len(KINDS))
    found += [both | {name: 0.5} for name in smooth]
    return found + [dict.fromkeys(KINDS, 0.4 / len(KINDS)) | {name: 0.3, "linear": 0.3} for name in smooth[:-1]]


class _Fitted(NamedTuple):
    """One kernel with its noise, by its decomposition on the measured molecules."""

    mix: Mix
    scale: float
    values: np.ndarray  # eigenvalues and noise
    vectors: np.ndarray
    rotated: np.ndarray  # vectors' values of y
    amplitude: float
    noise: float
    evidence: float

    def left_out(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each measured value given the others, in closed form."""
        own = (self.vectors**2) @ (1 / self.values)
        return y - self.vectors @ (self.rotated / self.values) / own, self.amplitude / own


class AveragedProcess:
    """Gaussian processes over mixes of Tanimoto kernels on counted fragments and kernels on descriptors, averaged by their
    tempered marginal likelihood."""

    def fit(self, features: MoleculeFeatures, values: np.ndarray) -> AveragedProcess:
        """values: float [N], finite, N at least 2. Of more than 1,500 molecules the best and an even sample are used."""
        self.rows = _thinned(values, MOST_FITTED)
        self.features, y = features.take(self.rows), values[self.rows]
        self.standard = Standard(self.features.descriptors)
        self.centre, self.unit = float(y.mean()), float(y.std()) or 1.0
        y = (y - self.centre) / self.unit
        kernels = self._kernels(self.features)
        kept = self._chosen(kernels, y)
        self.fitted = [f for mix, noises in kept for f in _decomposed(mix, kernels, y, noises)]
        evidence = np.array([f.evidence for f in self.fitted])
        self.weights = np.exp(TEMPER * (evidence - evidence.max()))
        self.weights /= self.weights.sum()
        means, variances = (np.array(part) for part in zip(*(f.left_out(y) for f in self.fitted)))
        self.left_out = self._everywhere(features, len(values), self._mixed(means, variances, np.zeros(len(means))))
        return self

    def _chosen(self, kernels: dict[str, np.ndarray], y: np.ndarray) -> list[tuple[Mix, list[float]]]:
        """The likeliest mixes with their noises."""
        rows = _thinned(y, MOST_CHOOSING)
        part = {name: k[np.ix_(rows, rows)] for name, k in kernels.items()} if len(rows) < len(y) else kernels
        every = [f for mix in mixes() for f in _decomposed(mix, part, y[rows], list(NOISES))]
        best = sorted(every, key=lambda f: -f.evidence)[:AVERAGED]
        found: dict[str, tuple[Mix, list[float]]] = {}
        for fit in best:
            found.setdefault(str(fit.mix), (fit.mix, []))[1].append(fit.noise)
        return list(found.values())

    def _everywhere(self, features: MoleculeFeatures, count: int, here: Prediction) -> Prediction:
        """Left-out answers for all ``count`` molecules; those that were not fitted are new to it anyway."""
        if len(self.rows) == count:
            return here
        found = self.predict(features)
        for part, own in zip((found.mean, found.std, found.spread), here):
            part[self.rows] = own
        return found

    def predict(self, features: MoleculeFeatures) -> Prediction:
        """Of any number of molecules, ``CHUNK`` at a time."""
        parts = [self._part(features.take(slice(i, i + CHUNK))) for i in range(0, len(features), CHUNK)]
        return Prediction(*map(np.concatenate, zip(*parts))) if parts else Prediction(*np.zeros((3, 0)))

    def _part(self, features: MoleculeFeatures) -> Prediction:
        kernels, own = self._kernels(features), self._own(features)
        means, variances = [], []
        for fit in self.fitted:
            cross = fit.vectors.T @ (_sum(fit.mix, kernels) / fit.scale).T
            means.append((fit.rotated / fit.values) @ cross)
            explained = (cross**2 / fit.values[:, None]).sum(0)
            alone = _sum(fit.mix, own) / fit.scale
            variances.append(fit.amplitude * np.maximum(alone - explained, 1e-9))
        noise = np.array([f.amplitude * f.noise for f in self.fitted])
        return self._mixed(np.array(means), np.array(variances), noise)

    def _mixed(self, means: np.ndarray, variances: np.ndarray, noise: np.ndarray) -> Prediction:
        """Of the average over the kernels; means, variances [kernels, N]."""
        mean = self.weights @ means
        between = (means - mean) ** 2
        variance = self.weights @ (variances + between)
        spread = self.weights @ (variances + noise[:, None] + between)
        return Prediction(self.centre + self.unit * mean, self.unit * np.sqrt(variance), self.unit * np.sqrt(spread))

    def _kernels(self, features: MoleculeFeatures) -> dict[str, np.ndarray]:
        """Base kernels [N, measured]."""
        rows, known = self.standard(features.descriptors), self.standard(self.features.descriptors)
        width = max(rows.shape[1], 1)
        product = rows @ known.T / width
        squares = ((rows**2).sum(1)[:, None] + (known**2).sum(1)[None, :]) / width - 2 * product
        found = {kind: similarities(features, self.features, kind) for kind in KINDS}
        found |= {f"radial {length:g}": np.exp(-np.maximum(squares, 0) / (2 * length**2)) for length in LENGTHS}
        return found | {"linear": product}

    def _own(self, features: MoleculeFeatures) -> dict[str, np.ndarray]:
        """What each base kernel says of a molecule with itself, [N]."""
        rows, one = self.standard(features.descriptors), np.ones(len(features))
        ones = dict.fromkeys((*KINDS, *(f"radial {length:g}" for length in LENGTHS)), one)
        return ones | {"linear": (rows**2).sum(1) / max(rows.shape[1], 1)}


def _sum(mix: Mix, kernels: dict[str, np.ndarray]) -> np.ndarray:
    return sum((weight * kernels[name] for name, weight in mix.items()), np.zeros(1))


def _decomposed(mix: Mix, kernels: dict[str, np.ndarray], y: np.ndarray, noises: list[float]) -> list[_Fitted]:
    """The process at each noise, with the likelihood's own best amplitude; one decomposition for all."""
    kernel = _sum(mix, kernels)
    scale = max(float(np.trace(kernel)) / len(y), 1e-12)
    values, vectors = np.linalg.eigh(kernel / scale)
    rotated = vectors.T @ y
    found = []
    for noise in noises:
        total = np.maximum(values, 0.0) + noise
        amplitude = max(float((rotated**2 / total).mean()), 1e-9)
        evidence = -0.5 * (len(y) * np.log(amplitude) + float(np.log(total).sum()))
        found.append(_Fitted(mix, scale, total, vectors, rotated, amplitude, float(noise), evidence))
    return found


def _thinned(values: np.ndarray, most: int) -> np.ndarray:
    """Rows of at most ``most`` molecules: the highest and lowest tenth of them, and of the rest an even sample by value."""
    if len(values) <= most:
        return np.arange(len(values))
    order, ends = np.argsort(values, kind="stable"), most // 10
    middle = order[ends : len(order) - ends]
    sample = middle[np.linspace(0, len(middle) - 1, most - 2 * ends).round().astype(int)]
    return np.sort(np.concatenate([order[:ends], sample, order[len(order) - ends :]]))


class RandomForest:
    """Trees on descriptors and on the counted fragments that divide the measured molecules best; errors by what each tree
    says of molecules outside its own sample (Breiman 2001)."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, features: MoleculeFeatures, values: np.ndarray) -> RandomForest:
        from sklearn.ensemble import RandomForestRegressor

        self.columns = _dividing(features.prints["ecfp4"])
        rows = self._rows(features)
        forest = RandomForestRegressor(TREES, max_features=0.3, random_state=self.seed, n_jobs=1).fit(rows, values)
        self.trees = [tree.tree_ for tree in forest.estimators_]
        answers = self._answers(rows)
        outside = np.ones(answers.shape, dtype=bool)
        for tree, drawn in zip(outside, forest.estimators_samples_):
            tree[drawn] = False
        count = np.maximum(outside.sum(0), 1)
        mean = np.where(outside, answers, 0).sum(0) / count
        mean = np.where(outside.any(0), mean, values.mean())
        between = np.where(outside, (answers - mean) ** 2, 0).sum(0) / count
        self.share, self.rest = _calibrated(values, mean, between)
        self.left_out = self._prediction(mean, between)
        return self

    def predict(self, features: MoleculeFeatures) -> Prediction:
        means, between = [np.zeros(0)], [np.zeros(0)]
        for i in range(0, len(features), CHUNK):
            answers = self._answers(self._rows(features.take(slice(i, i + CHUNK))))
            means.append(answers.mean(0))
            between.append(answers.var(0))
        return self._prediction(np.concatenate(means), np.concatenate(between))

    def _prediction(self, mean: np.ndarray, between: np.ndarray) -> Prediction:
        true = self.share * between + (1 - TREE_NOISE) * self.rest
        return Prediction(mean, np.sqrt(true), np.sqrt(self.share * between + self.rest))

    def _rows(self, features: MoleculeFeatures) -> np.ndarray:
        fragments = features.prints["ecfp4"][:, self.columns].toarray()
        return np.ascontiguousarray(np.concatenate([features.descriptors, fragments], axis=1), dtype=np.float32)

    def _answers(self, rows: np.ndarray) -> np.ndarray:
        """[trees, N]"""
        return np.stack([tree.predict(rows)[:, 0] for tree in self.trees])


def _dividing(prints: sparse.csr_matrix) -> np.ndarray:
    """Columns that at least two molecules have and two have not, those that divide them most evenly first."""
    having = np.asarray(prints.sum(axis=0)).ravel()
    fewer = np.minimum(having, prints.shape[0] - having)
    columns = np.flatnonzero(fewer >= 2)
    return np.sort(columns[np.argsort(-fewer[columns], kind="stable")[:COLUMNS]])


def _calibrated(values: np.ndarray, mean: np.ndarray, between: np.ndarray) -> tuple[float, float]:
    """(factor of the variance between trees, variance beside it) under which the left-out errors are likeliest."""
    errors, whole = (values - mean) ** 2, max(float(values.var()), 1e-12)
    choices = [(a, b * whole) for a in (0.0, 0.25, 0.5, 1.0, 2.0) for b in (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)]

    def likelihood(choice: tuple[float, float]) -> float:
        variance = choice[0] * between + choice[1]
        return -float((np.log(variance) + errors / variance).sum())

    return max(choices, key=likelihood)
