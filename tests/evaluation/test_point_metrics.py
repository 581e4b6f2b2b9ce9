"""The numbers that a search compares are those that the report leads with."""

import numpy as np
import pytest

from reprogram.evaluation.metrics import evaluate
from reprogram.evaluation.point_metrics import accuracy, rmse, roc_auc


@pytest.mark.parametrize(
    ("problem", "metric", "tasks"),
    [("classification", accuracy, 3), ("classification", roc_auc, 2), ("multilabel", roc_auc, 4), ("regression", rmse, 1)],
)
def test_point_metrics_are_the_values_of_the_report(problem, metric, tasks):
    rng = np.random.default_rng(0)
    predicted = rng.dirichlet(np.ones(tasks), 60) if problem == "classification" else rng.random((60, tasks))
    labels = rng.integers(0, tasks, 60)
    if problem == "multilabel":
        labels = rng.integers(0, 2, (60, tasks)).astype(float)
        labels[rng.random((60, tasks)) < 0.3] = np.nan
    if problem == "regression":
        labels = rng.random((60, 1))
    assert metric(labels, predicted) == pytest.approx(evaluate(predicted, labels, problem)[metric.__name__]["value"])


def test_a_metric_that_is_not_defined_is_not_a_number():
    assert np.isnan(roc_auc(np.zeros(5, dtype=int), np.full((5, 2), 0.5)))
