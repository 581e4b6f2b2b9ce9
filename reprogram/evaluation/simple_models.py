"""Plain models on plain features: what a program has to beat. Each works for classes, many labels and values.

``fit_predict("logistic", train_features, train_labels, test_features, info)`` -> test scores [N, T]: probabilities, or
values [N, 1] for regression. A class or answer that is absent from the labels keeps its column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, nearest
from reprogram.interfaces import TargetInfo

NEAREST_SHARPNESS = 20.0  # cosine similarity -> log-odds


def fit_predict(
    name: str, train: np.ndarray, labels: np.ndarray, test: np.ndarray, info: TargetInfo, seed: int = 0
) -> np.ndarray:
    """Fit the simple model ``name`` and score the test features.

    Args:
        train, test: features [n, F] and [N, F].
        labels: int [n]; multilabel: [n, T] with NaN for missing; regression: [n] or [n, 1].

    Raises:
        ConfigError: no such model.
    """
    if name not in MODELS:
        raise ConfigError(f"There is no simple model '{name}'; {nearest(name, MODELS)}")
    classifier, regressor = MODELS[name]
    if info.problem == "regression":
        known = ~np.isnan(labels.reshape(len(labels)).astype(float))
        model = regressor(seed).fit(train[known], labels.reshape(len(labels))[known])
        return np.asarray(model.predict(test), dtype=float).reshape(len(test), 1)
    if info.problem == "classification":
        return _probabilities(classifier, train, labels, test, len(info.classes), seed)
    columns = []
    for task in range(len(info.classes)):
        known = ~np.isnan(labels[:, task])
        if not known.any():
            columns.append(np.full(len(test), 0.5))
            continue
        answers = labels[known, task].astype(int)
        columns.append(_probabilities(classifier, train[known], answers, test, 2, seed)[:, 1])
    return np.stack(columns, axis=1)


def _probabilities(
    make: Callable[[int], Any], train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, seed: int
) -> np.ndarray:
    scores = np.zeros((len(test), classes))
    present = np.unique(labels)
    if len(present) == 1:
        scores[:, present[0]] = 1.0
        return scores
    model = make(seed).fit(train, labels)
    scores[:, model.classes_] = model.predict_proba(test)
    return scores


def _logistic(seed: int) -> Any:
    """Logistic regression, C = 1, on the features as they are."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=2000, random_state=seed)


def _ridge(seed: int) -> Any:
    """Ridge regression on standardised features, its strength by leave-one-out."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-2, 5, 15)))


def _scaled_logistic(seed: int) -> Any:
    """Logistic regression on standardised features of different units (descriptors), C = 0.1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, random_state=seed))


def _forest(seed: int) -> Any:
    """200 trees, classes weighted alike."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(200, class_weight="balanced", random_state=seed, n_jobs=1)


def _forest_regressor(seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(200, random_state=seed, n_jobs=1)


class NearestCentroid:
    """The class whose mean direction is nearest by cosine (features centred on the training mean)."""

    def __init__(self, seed: int = 0) -> None:
        self.classes_ = np.array([], dtype=int)

    def fit(self, features: np.ndarray, labels: np.ndarray) -> NearestCentroid:
        self.classes_ = np.unique(labels)
        self.middle = features.mean(0)
        directions = self._directions(features)
        self.centroids = _unit(np.stack([directions[labels == c].mean(0) for c in self.classes_]))
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        odds = np.exp(NEAREST_SHARPNESS * (self._directions(features) @ self.centroids.T - 1.0))
        return odds / odds.sum(1, keepdims=True)

    def _directions(self, features: np.ndarray) -> np.ndarray:
        return _unit(features - self.middle)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _neighbours(seed: int) -> Any:
    """Mean of the five nearest examples: what a nearest centroid is for values."""
    from sklearn.neighbors import KNeighborsRegressor

    class AtMostFive(KNeighborsRegressor):
        def fit(self, features: np.ndarray, labels: np.ndarray) -> Any:
            self.n_neighbors = min(5, len(features))
            return super().fit(features, labels)

    return AtMostFive(weights="distance")


MODELS: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {  # name -> (for classes, for values)
    "logistic": (_logistic, _ridge),
    "scaled_logistic": (_scaled_logistic, _ridge),
    "forest": (_forest, _forest_regressor),
    "nearest_centroid": (NearestCentroid, _neighbours),
}
