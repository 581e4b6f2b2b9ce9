"""Metrics with 95 % intervals: ``{"accuracy": {"value", "low", "high"}, …}``.

Values are scikit-learn's. Intervals: Wilson's for accuracy, a seeded percentile bootstrap over test examples for the
rest (:mod:`reprogram.evaluation.bootstrap`). What cannot be said (ROC-AUC with one class in the test set) is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reprogram.evaluation import bootstrap
from reprogram.evaluation.bootstrap import Statistic

Metric = dict[str, float | None]
LOWER_IS_BETTER = ("rmse", "mae", "calibration_error")
TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "calibration_error": "calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "spearman": "Spearman",
}


def evaluate(scores: np.ndarray, labels: np.ndarray, problem: str, seed: int = 0) -> dict[str, Metric]:
    """All metrics of one set of predictions.

    Args:
        scores: probabilities [N, T] (classification: of each class; multilabel: of each task), regression: [N] or
            [N, 1] predicted values.
        labels: int [N] columns of ``scores``; multilabel: [N, T] of 0, 1, NaN (missing); regression: [N] or [N, 1].
        problem: ``classification``, ``multilabel`` or ``regression``.

    Raises:
        ValueError: no examples, or shapes that do not fit.
    """
    scores, labels = np.asarray(scores, dtype=float), np.asarray(labels)
    if len(labels) == 0 or len(scores) != len(labels):
        raise ValueError(f"{len(scores)} predictions for {len(labels)} labels; both must be the same and not zero")
    return _PROBLEMS[problem](scores, labels, seed)


def headline(problem: str, classes: int) -> str:
    """The metric that a report leads with: ROC-AUC for two classes and multi-label, accuracy for more, RMSE."""
    if problem == "regression":
        return "rmse"
    return "roc_auc" if problem == "multilabel" or classes == 2 else "accuracy"


def better(metric: str, first: float, second: float) -> bool:
    """Whether ``first`` is the better value of this metric."""
    return first < second if metric in LOWER_IS_BETTER else first > second


def wilson(hits: float, n: int, z: float = 1.959964) -> Metric:
    """Share of hits with Wilson's score interval (1927), right also at 0 and 1."""
    share = hits / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return {
        "value": float(share),
        "low": min(float(share), max(0.0, float(middle - half))),
        "high": max(float(share), min(1.0, float(middle + half))),
    }


def predictions(scores: np.ndarray, problem: str) -> np.ndarray:
    """What is answered: the most probable class [N], 0 or 1 a task [N, T], or the value [N]."""
    if problem == "classification":
        return scores.argmax(1)
    return (scores >= 0.5).astype(int) if problem == "multilabel" else scores.reshape(len(scores))


def statistic(metric: str, scores: np.ndarray, labels: np.ndarray, problem: str) -> Statistic:
    """One metric as a function of resample counts, for paired comparisons of two sets of predictions."""
    return _STATISTICS[problem](np.asarray(scores, dtype=float), np.asarray(labels))[metric]


def _classification(scores: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Metric]:
    from sklearn import metrics as sk

    answers, n = scores.argmax(1), len(labels)
    present = [c for c in np.unique(labels) if 0 < (labels == c).sum() < n]
    ranked = [1] if scores.shape[1] == 2 and present else present
    points = {
        "accuracy": sk.accuracy_score(labels, answers),
        "balanced_accuracy": np.mean([np.mean(answers[labels == c] == c) for c in np.unique(labels)]),
        "macro_f1": sk.f1_score(labels, answers, average="macro", zero_division=0),
        "roc_auc": _mean(sk.roc_auc_score(labels == c, scores[:, c]) for c in ranked),
        "pr_auc": _mean(sk.average_precision_score(labels == c, scores[:, c]) for c in ranked),
        "calibration_error": _at_one(_classification_statistics(scores, labels)["calibration_error"], n),
    }
    smallest = int(np.bincount(labels)[np.unique(labels)].min())
    found = _with_intervals(points, _classification_statistics(scores, labels), n, scores.shape[1], seed, smallest)
    return found | {"accuracy": wilson(int((answers == labels).sum()), n)}


def _classification_statistics(scores: np.ndarray, labels: np.ndarray) -> dict[str, Statistic]:
    answers = scores.argmax(1)
    known = np.unique(labels)
    ranked = [1] if scores.shape[1] == 2 else list(known)
    confidence = scores.max(1)
    return {
        "accuracy": bootstrap.mean_of((answers == labels).astype(float)),
        "balanced_accuracy": bootstrap.average([bootstrap.recall(labels, answers, c) for c in known]),
        "macro_f1": bootstrap.average([bootstrap.f1(labels, answers, c) for c in np.union1d(known, answers)]),
        "roc_auc": bootstrap.average([bootstrap.roc_auc(labels == c, scores[:, c]) for c in ranked]),
        "pr_auc": bootstrap.average([bootstrap.average_precision(labels == c, scores[:, c]) for c in ranked]),
        "calibration_error": bootstrap.calibration_error(confidence, (answers == labels).astype(float)),
    }


def _multilabel(scores: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Metric]:
    from sklearn import metrics as sk

    answers, known = (scores >= 0.5).astype(int), ~np.isnan(labels)
    tasks = [(labels[rows, t], answers[rows, t], scores[rows, t]) for t, rows in enumerate(known.T) if rows.any()]
    ranked = [(y, s) for y, _, s in tasks if 0 < y.sum() < len(y)]
    statistics = _multilabel_statistics(scores, labels)
    points = {
        "accuracy": float(np.mean((answers == labels)[known])) if known.any() else None,
        "balanced_accuracy": _mean(np.mean([np.mean(a[y == c] == c) for c in np.unique(y)]) for y, a, _ in tasks),
        "macro_f1": _mean(sk.f1_score(y, a, zero_division=0) for y, a, _ in tasks if y.any() or a.any()),
        "roc_auc": _mean(sk.roc_auc_score(y, s) for y, s in ranked),
        "pr_auc": _mean(sk.average_precision_score(y, s) for y, s in ranked),
        "calibration_error": _at_one(statistics["calibration_error"], len(labels)),
    }
    smallest = min((int(min(y.sum(), len(y) - y.sum())) for y, _ in ranked), default=1)
    return _with_intervals(points, statistics, len(labels), scores.shape[1], seed, smallest)


def _multilabel_statistics(scores: np.ndarray, labels: np.ndarray) -> dict[str, Statistic]:
    answers, known = (scores >= 0.5).astype(int), ~np.isnan(labels)
    columns = [(np.flatnonzero(rows), t) for t, rows in enumerate(known.T) if rows.any()]

    def over_tasks(make: Callable[[np.ndarray, np.ndarray, np.ndarray], Statistic]) -> Statistic:
        return bootstrap.average(
            [bootstrap.observed(r, make(labels[r, t].astype(int), answers[r, t], scores[r, t])) for r, t in columns]
        )

    def balanced(y: np.ndarray, a: np.ndarray, _: np.ndarray) -> Statistic:
        return bootstrap.average([bootstrap.recall(y, a, c) for c in np.unique(y)])

    hits = np.where(known, answers == labels, 0).sum(1)
    cells = known.sum(1)
    gaps = [
        (r, bootstrap.calibration_error(scores[r, t], labels[r, t]), len(r) / max(known.sum(), 1)) for r, t in columns
    ]
    return {
        "accuracy": lambda w: (w @ hits) / (w @ cells),
        "balanced_accuracy": over_tasks(balanced),
        "macro_f1": over_tasks(lambda y, a, _: bootstrap.f1(y, a, 1)),
        "roc_auc": over_tasks(lambda y, _, s: bootstrap.roc_auc(y == 1, s)),
        "pr_auc": over_tasks(lambda y, _, s: bootstrap.average_precision(y == 1, s)),
        "calibration_error": lambda w: sum((share * gap(w[:, r]) for r, gap, share in gaps), np.zeros(len(w))),
    }


def _regression(scores: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Metric]:
    from scipy.stats import spearmanr
    from sklearn import metrics as sk

    known, predicted = _known_values(scores, labels)
    ranked = len(np.unique(known)) > 1 and len(np.unique(predicted)) > 1
    points = {
        "rmse": sk.root_mean_squared_error(known, predicted),
        "mae": sk.mean_absolute_error(known, predicted),
        "r2": sk.r2_score(known, predicted) if len(np.unique(known)) > 1 else None,
        "spearman": spearmanr(known, predicted).statistic if ranked else None,
    }
    return _with_intervals(points, _regression_statistics(scores, labels), len(known), 1, seed)


def _regression_statistics(scores: np.ndarray, labels: np.ndarray) -> dict[str, Statistic]:
    known, predicted = _known_values(scores, labels)
    squared = bootstrap.mean_of((known - predicted) ** 2)
    return {
        "rmse": lambda w: np.sqrt(squared(w)),
        "mae": bootstrap.mean_of(np.abs(known - predicted)),
        "r2": bootstrap.r2(known, predicted),
        "spearman": bootstrap.spearman(known, predicted),
    }


def _known_values(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = labels.reshape(len(labels)).astype(float)
    rows = ~np.isnan(labels)
    return labels[rows], scores.reshape(len(scores))[rows]


def _with_intervals(
    points: dict[str, float | None],
    statistics: dict[str, Statistic],
    n: int,
    columns: int,
    seed: int,
    smallest: int = 0,
) -> dict[str, Metric]:
    drawn = bootstrap.distributions(statistics, n, seed, bootstrap.resamples(n, columns))
    return {name: _interval(name, value, drawn[name], smallest) for name, value in points.items()}


def _interval(name: str, value: float | None, drawn: np.ndarray, smallest: int) -> Metric:
    if value is None or np.isnan(value) or np.isnan(drawn).all():
        return {"value": None if value is None or np.isnan(value) else float(value), "low": None, "high": None}
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    if name == "calibration_error":  # resampling adds to it, so its distribution is read from the other side
        low, high = max(0.0, 2 * value - high), max(0.0, 2 * value - low)
    if high == low and value in (0.0, 1.0) and smallest:  # a perfect score: resamples cannot disagree
        sure = wilson(value * smallest, smallest)
        low, high = sure["low"], sure["high"]
    return {"value": float(value), "low": float(min(low, value)), "high": float(max(high, value))}


def _at_one(statistic: Statistic, n: int) -> float:
    return float(statistic(np.ones((1, n)))[0])


def _mean(values: Any) -> float | None:
    known: Sequence[float] = list(values)
    return float(np.mean(known)) if len(known) else None


_PROBLEMS: dict[str, Callable[[np.ndarray, np.ndarray, int], dict[str, Metric]]] = {
    "classification": _classification,
    "multilabel": _multilabel,
    "regression": _regression,
}
_STATISTICS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, Statistic]]] = {
    "classification": _classification_statistics,
    "multilabel": _multilabel_statistics,
    "regression": _regression_statistics,
}
