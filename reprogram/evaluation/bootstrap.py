"""The bootstrap, vectorised: a resample of N examples is a row of N counts, a metric is a function of such rows.

Every statistic here maps counts [B, N] to values [B] (NaN where a resample lacks what the metric needs). With counts
of one it is scikit-learn's value; with the counts of a resample, scikit-learn's value on that resample, ties included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
CELLS = 2_000_000  # counts held at a time: 16 MB
WORK = 200_000_000  # counts x columns in all; fewer resamples are drawn for very large tests


def resamples(n: int, columns: int = 1, most: int = 1000, least: int = 200) -> int:
    """How many resamples to draw for N examples and T columns, so that intervals cost a second or two at most."""
    return int(np.clip(WORK // max(n * columns, 1), least, most))


def counts(n: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of N examples is drawn in each resample with replacement, [samples, N]."""
    drawn = rng.integers(0, n, size=(samples, n)) + n * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * n).reshape(samples, n).astype(float)


def distributions(statistics: Mapping[str, Statistic], n: int, seed: int, samples: int) -> dict[str, np.ndarray]:
    """Each statistic on the same seeded resamples, [samples]; so differences of two statistics are paired."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    step = max(1, CELLS // max(n, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, samples, step):
            drawn = counts(n, min(step, samples - start), rng)
            for name, statistic in statistics.items():
                found[name].append(statistic(drawn))
    return {name: np.concatenate(values) for name, values in found.items()}


def mean_of(values: np.ndarray) -> Statistic:
    """Weighted mean of one value an example (accuracy from hits, MAE from absolute errors)."""
    return lambda w: (w @ values) / w.sum(1)


def average(statistics: list[Statistic]) -> Statistic:
    """Mean over classes or tasks of those that are defined on a resample."""

    def mean(w: np.ndarray) -> np.ndarray:
        total, known = np.zeros(len(w)), np.zeros(len(w))
        for statistic in statistics:
            value = statistic(w)
            defined = ~np.isnan(value)
            total[defined] += value[defined]
            known += defined
        return total / known

    return mean


def observed(rows: np.ndarray, statistic: Statistic) -> Statistic:
    """A statistic over these rows only (a task of a multi-label target with missing labels)."""
    return lambda w: statistic(w[:, rows])


def recall(labels: np.ndarray, predictions: np.ndarray, label: int) -> Statistic:
    """Share of one class that was found."""
    of_class = (labels == label).astype(float)
    found = of_class * (predictions == label)
    return lambda w: (w @ found) / (w @ of_class)


def f1(labels: np.ndarray, predictions: np.ndarray, label: int) -> Statistic:
    """F1 of one class; undefined where it is neither known nor predicted."""
    both = ((labels == label) & (predictions == label)).astype(float)
    either = (labels == label).astype(float) + (predictions == label)
    return lambda w: 2 * (w @ both) / (w @ either)


def roc_auc(positive: np.ndarray, scores: np.ndarray) -> Statistic:
    """Area under the ROC curve of one class against the rest; ties count half."""
    rows = np.flatnonzero(positive)
    others = np.flatnonzero(~positive.astype(bool))
    others = others[np.argsort(scores[others], kind="stable")]
    below = np.searchsorted(scores[others], scores[rows], side="left")
    up_to = np.searchsorted(scores[others], scores[rows], side="right")

    def area(w: np.ndarray) -> np.ndarray:
        passed = np.zeros((len(w), len(others) + 1))
        np.cumsum(w[:, others], axis=1, out=passed[:, 1:])
        won = (w[:, rows] * (passed[:, below] + passed[:, up_to])).sum(1) / 2
        return won / (w[:, rows].sum(1) * passed[:, -1])

    return area


def average_precision(positive: np.ndarray, scores: np.ndarray) -> Statistic:
    """Area under the precision-recall curve as steps (scikit-learn's ``average_precision_score``)."""
    order = np.argsort(-scores, kind="stable")
    descending, hit = -scores[order], positive[order].astype(float)
    rows = np.flatnonzero(hit)
    tied_up_to = np.searchsorted(descending, descending[rows], side="right") - 1

    def area(w: np.ndarray) -> np.ndarray:
        w = w[:, order]
        precision = np.cumsum(w * hit, axis=1)[:, tied_up_to] / np.cumsum(w, axis=1)[:, tied_up_to]
        drawn = w[:, rows]
        return np.where(drawn > 0, drawn * precision, 0.0).sum(1) / drawn.sum(1)

    return area


def calibration_error(confidence: np.ndarray, hit: np.ndarray, bins: int = 15) -> Statistic:
    """Expected calibration error over equal-width bins (Naeini et al. 2015; Guo et al. 2017, eq. 3)."""
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.zeros((len(confidence), bins))
    gap[np.arange(len(confidence)), place] = hit - confidence
    return lambda w: np.abs(w @ gap).sum(1) / w.sum(1)


def r2(known: np.ndarray, predicted: np.ndarray) -> Statistic:
    """Coefficient of determination."""
    centred = known - known.mean()
    squared = (known - predicted) ** 2

    def share(w: np.ndarray) -> np.ndarray:
        spread = w @ centred**2 - (w @ centred) ** 2 / w.sum(1)
        return 1 - (w @ squared) / np.where(spread > 1e-12 * w.sum(1), spread, np.nan)

    return share


def spearman(known: np.ndarray, predicted: np.ndarray) -> Statistic:
    """Rank correlation; ranks are those within the resample, ties take their middle."""
    first, second = _ranker(known), _ranker(predicted)

    def correlation(w: np.ndarray) -> np.ndarray:
        total = w.sum(1, keepdims=True)
        a, b = first(w) - (total + 1) / 2, second(w) - (total + 1) / 2
        return (w * a * b).sum(1) / np.sqrt((w * a**2).sum(1) * (w * b**2).sum(1))

    return correlation


def _ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    below = np.searchsorted(ascending, values, side="left")
    up_to = np.searchsorted(ascending, values, side="right")

    def ranks(w: np.ndarray) -> np.ndarray:
        passed = np.zeros((len(w), len(values) + 1))
        np.cumsum(w[:, order], axis=1, out=passed[:, 1:])
        return (passed[:, below] + passed[:, up_to] + 1) / 2

    return ranks
