"""Simple models on simple features, for every kind of problem."""

import numpy as np
import pytest

from reprogram.errors import ConfigError
from reprogram.evaluation.simple_models import MODELS, fit_predict
from reprogram.interfaces import TargetInfo


def info(problem, classes):
    return TargetInfo("t", "text", problem, classes)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_classes_and_keeps_the_column_of_an_absent_one(name):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2, 3], 20)  # class 1 is absent: its column must stay, empty
    features = np.eye(4)[labels] * 3 + rng.normal(size=(60, 4)) * 0.3
    scores = fit_predict(name, features, labels, features, info("classification", ("a", "b", "c", "d")))
    assert scores.shape == (60, 4) and (scores[:, 1] == 0).all()
    assert scores.sum(1) == pytest.approx(1.0)
    assert (scores.argmax(1) == labels).mean() > 0.95


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_values(name):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 3))
    values = 2 * features[:, 0] + 5
    values[3] = np.nan  # left out
    found = fit_predict(name, features, values[:, None], features, info("regression", ("y",)))
    assert found.shape == (80, 1)
    known = ~np.isnan(values)
    assert np.corrcoef(found[known, 0], values[known])[0, 1] > 0.9


@pytest.mark.parametrize("name", MODELS)
def test_every_model_masks_missing_labels(name):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3))
    labels = (features[:, :2] > 0).astype(float)
    labels = np.c_[labels, np.full(60, np.nan), np.ones(60)]
    labels[::4, 0] = np.nan
    scores = fit_predict(name, features, labels, features, info("multilabel", ("a", "b", "none", "always")))
    assert scores.shape == (60, 4) and (scores[:, 2] == 0.5).all() and (scores[:, 3] == 1.0).all()
    assert ((scores[:, 0] > 0.5) == (features[:, 0] > 0)).mean() > 0.75


def test_one_class_only():
    scores = fit_predict(
        "logistic", np.ones((3, 2)), np.array([1, 1, 1]), np.ones((2, 2)), info("classification", ("a", "b"))
    )
    assert scores.tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_unknown_model_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'logistic'"):
        fit_predict("logistc", np.ones((2, 1)), np.array([0, 1]), np.ones((1, 1)), info("classification", ("a", "b")))
