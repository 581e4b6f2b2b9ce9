"""One metric as a number without its interval, for searches that need it thousands of times.

The same values as :mod:`reprogram.evaluation.metrics`, as functions (labels, predictions [n, T]) -> float; NaN where a
metric is not defined.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reprogram.evaluation.metrics import headline
from reprogram.interfaces import TargetInfo


def main_metric(target: TargetInfo) -> Any:
    """The metric that the report leads with."""
    name = headline(target.problem, len(target.classes))
    return {"accuracy": accuracy, "roc_auc": roc_auc, "rmse": rmse}[name]


def accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Share of labels [N] that are the largest of the predictions [N, T]."""
    return float((predicted.argmax(1) == labels).mean())


def roc_auc(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Of the second class; for multilabel the mean over tasks with both answers (NaN labels left out)."""
    from sklearn.metrics import roc_auc_score

    if labels.ndim == 1:
        labels, predicted = labels[:, None].astype(float), predicted[:, 1:2]
    values = []
    for task in range(labels.shape[1]):
        known = np.isfinite(labels[:, task])
        if len(np.unique(labels[known, task])) == 2:
            values.append(roc_auc_score(labels[known, task], predicted[known, task]))
    return float(np.mean(values)) if values else float("nan")


def rmse(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Root mean squared error of predictions [N, 1]."""
    return float(np.sqrt(((labels.reshape(len(labels)) - predicted[:, 0]) ** 2).mean()))
