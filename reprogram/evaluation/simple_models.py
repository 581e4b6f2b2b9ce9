"""Plain models on plain features: what a program has to beat. Each works for classes, many labels and values.

``fit_predict("logistic", train_features, train_labels, test_features, info)`` -> test scores [N, T]: probabilities, or
values [N, 1] for regression. A class or answer that is absent from the labels keeps its column. Every model has a few
settings, among which cross-validation on the training labels chooses (:mod:`reprogram.evaluation.tuning`): a baseline that
nobody tuned is a straw man.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, nearest
from reprogram.evaluation.tuning import Make, Tuned, choose
from reprogram.interfaces import TargetInfo

WIDE = 2000  # examples from which linear models read features as they are, not their projection on the examples
STRENGTHS = (30.0, 0.03, 0.3, 3.0, 300.0, 3e3, 3e4)  # C of logistic regression on rows of mean square norm 1


@dataclass(frozen=True)
class Simple:
    """classes, values: seed -> settings of the model for classes and for values. linear: fit and answers do not change
    with a rotation of the features, so that F features of n examples can be read as n. scaled: standardise first."""

    classes: Callable[[int], list[Make]]
    values: Callable[[int], list[Make]]
    linear: bool = False
    scaled: bool = False


def fit_predict(name: str, train: Any, labels: np.ndarray, test: Any, info: TargetInfo, seed: int = 0) -> np.ndarray:
    """Tune and fit the simple model ``name`` and score the test features.

    Args:
        train, test: features [n, F] and [N, F], dense or sparse.
        labels: int [n]; multilabel: [n, T] with NaN for missing; regression: [n] or [n, 1].

    Raises:
        ConfigError: no such model.
    """
    return best_of(name, [(train, test)], labels, info, seed)


def best_of(
    name: str, variants: Sequence[tuple[Any, Any]], labels: np.ndarray, info: TargetInfo, seed: int = 0
) -> np.ndarray:
    """The same with several features (train, test) of the same inputs, among which cross-validation chooses, too."""
    if name not in MODELS:
        raise ConfigError(f"There is no simple model '{name}'; {nearest(name, MODELS)}")
    simple = MODELS[name]
    if info.problem == "regression":
        values = labels.reshape(len(labels)).astype(float)
        known = ~np.isnan(values)
        return _best(simple, variants, known, values[known], 0, seed)
    if info.problem == "classification":
        return _best(simple, variants, np.ones(len(labels), bool), labels, len(info.classes), seed)
    columns = []
    for task in range(len(info.classes)):
        known = ~np.isnan(labels[:, task])
        if not known.any():
            columns.append(np.full(variants[0][1].shape[0], 0.5))
            continue
        columns.append(_best(simple, variants, known, labels[known, task].astype(int), 2, seed)[:, 1])
    return np.stack(columns, axis=1)


def _best(
    simple: Simple,
    variants: Sequence[tuple[Any, Any]],
    known: np.ndarray,
    labels: np.ndarray,
    columns: int,
    seed: int,
) -> np.ndarray:
    if columns and len(present := np.unique(labels)) == 1:
        scores = np.zeros((variants[0][1].shape[0], columns))
        scores[:, present[0]] = 1.0
        return scores
    makes = (simple.classes if columns else simple.values)(seed)
    found: list[tuple[Tuned, Any]] = []
    for train, test in variants:
        train, test = _prepared(simple, train[known], test)
        found.append((choose(makes, train, labels, columns, seed), test))
    errors = [np.inf if np.isnan(tuned.error) else tuned.error for tuned, _ in found]
    tuned, test = found[int(np.argmin(errors))]
    return tuned.scores(test)


def _prepared(simple: Simple, train: Any, test: Any) -> tuple[Any, Any]:
    """Standardised and projected on the training examples, where the model is one for which that is the same."""
    if simple.scaled:
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    if simple.linear:  # so that a strength means the same whatever the unit of the features is
        unit = np.sqrt(_squares(train).mean()) or 1.0
        train, test = train / unit, test / unit
    if not simple.linear or not train.shape[0] < min(train.shape[1], WIDE):
        return train, test
    gram, across = _dense(train @ train.T), _dense(test @ train.T)
    squares, left = np.linalg.eigh(gram)
    kept = squares > squares.max() * 1e-10
    root = np.sqrt(squares[kept])
    return left[:, kept] * root, across @ (left[:, kept] / root)  # X = U·s·Vᵀ, so that X'·V = X'·Xᵀ·U / s


def _squares(rows: Any) -> np.ndarray:
    """Squared norm of each row."""
    return np.asarray((rows.multiply(rows) if hasattr(rows, "multiply") else rows * rows).sum(1), dtype=float)


def _dense(rows: Any) -> np.ndarray:
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, dtype=float)


def _logistic(seed: int) -> list[Make]:
    """Logistic regression; C by cross-validation."""
    from sklearn.linear_model import LogisticRegression

    return [lambda c=c: LogisticRegression(C=c, max_iter=500, random_state=seed) for c in STRENGTHS]  # type: ignore[misc]


def _ridge(seed: int) -> list[Make]:
    """Ridge regression, its strength by leave-one-out."""
    from sklearn.linear_model import RidgeCV

    return [lambda: RidgeCV(alphas=np.logspace(-2, 5, 15))]


def _forest(seed: int) -> list[Make]:
    """200 trees, classes weighted alike; how many features a split sees and how small a leaf is by out-of-bag answers."""
    from sklearn.ensemble import RandomForestClassifier

    return [
        lambda features=features, leaf=leaf: RandomForestClassifier(  # type: ignore[misc]
            200, max_features=features, min_samples_leaf=leaf, class_weight="balanced", oob_score=True, random_state=seed,
            n_jobs=1,
        )
        for features, leaf in (("sqrt", 1), (0.2, 1), ("sqrt", 3))
    ]  # fmt: skip


def _forest_regressor(seed: int) -> list[Make]:
    from sklearn.ensemble import RandomForestRegressor

    return [
        lambda features=features, leaf=leaf: RandomForestRegressor(  # type: ignore[misc]
            200, max_features=features, min_samples_leaf=leaf, oob_score=True, random_state=seed, n_jobs=1
        )
        for features, leaf in ((1 / 3, 1), (1.0, 1), (1 / 3, 3))
    ]


class CosineCentroids:
    """The class whose mean direction is nearest by cosine. centred: features less the training mean first."""

    def __init__(self, centred: bool = True, own: float = 1.0) -> None:
        self.centred, self.own = centred, own
        self.classes_ = np.array([], dtype=int)

    def fit(self, features: np.ndarray, labels: np.ndarray) -> CosineCentroids:
        self.classes_ = np.unique(labels)
        self.middle = features.mean(0) if self.centred else np.zeros(features.shape[1])
        directions = self._directions(features)
        overall = directions.mean(0)
        means = np.stack([directions[labels == c].mean(0) for c in self.classes_])
        self.centroids = _unit(self.own * means + (1 - self.own) * overall)
        return self

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        """Cosines [N, T]; one fitted inverse temperature turns them into probabilities."""
        found = self._directions(features) @ self.centroids.T
        return found if len(self.classes_) > 2 else found[:, 1] - found[:, 0]

    def _directions(self, features: np.ndarray) -> np.ndarray:
        return _unit(features - self.middle)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _centroids(seed: int) -> list[Make]:
    """Centred or not, and shrunk towards the overall mean or not."""
    settings = ((True, 1.0), (False, 1.0), (True, 0.5))
    return [lambda c=c, own=own: CosineCentroids(c, own) for c, own in settings]  # type: ignore[misc]


def _neighbours(seed: int) -> list[Make]:
    """Mean of the nearest examples: what a nearest centroid is for values. How many is chosen."""
    from sklearn.neighbors import KNeighborsRegressor

    class AtMost(KNeighborsRegressor):
        def fit(self, features: np.ndarray, labels: np.ndarray) -> Any:
            self.n_neighbors: int = min(self.n_neighbors, len(features))  # type: ignore[has-type]
            return super().fit(features, labels)

    return [lambda k=k: AtMost(k, weights="distance") for k in (5, 1, 3, 10, 20)]  # type: ignore[misc]


def _naive_bayes(seed: int) -> list[Make]:
    """Complement naive Bayes (Rennie et al. 2003), for counts and TF-IDF; its smoothing is chosen."""
    from sklearn.naive_bayes import ComplementNB

    return [lambda a=a: ComplementNB(alpha=a) for a in (1.0, 0.03, 0.1, 0.3, 3.0)]  # type: ignore[misc]


def _kernels(seed: int) -> list[Make]:
    """Support vector machines: linear ones, and with Gaussian kernels of several widths."""
    from sklearn.svm import SVC

    settings: list[dict[str, Any]] = [{"kernel": "linear", "C": c} for c in (1.0, 0.01, 0.1)]
    settings += [{"gamma": gamma, "C": 10.0} for gamma in ("scale", 0.003, 0.01, 0.03)]
    return [lambda options=options: SVC(random_state=seed, **options) for options in settings]  # type: ignore[misc]


def _kernel_regressors(seed: int) -> list[Make]:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    class Scaled(SVR):
        """Answers in units of their spread, so that C and epsilon mean the same for every target."""

        def fit(self, features: np.ndarray, labels: np.ndarray) -> Any:
            self.middle_, self.unit_ = labels.mean(), max(labels.std(), 1e-12)
            return super().fit(features, (labels - self.middle_) / self.unit_)

        def predict(self, features: np.ndarray) -> np.ndarray:
            return super().predict(features) * self.unit_ + self.middle_

    gaussian = [lambda c=c: make_pipeline(StandardScaler(), Scaled(C=c)) for c in (1.0, 10.0)]  # type: ignore[misc]
    return [*_ridge(seed), *gaussian]


MODELS: dict[str, Simple] = {
    "logistic": Simple(_logistic, _ridge, linear=True),
    "scaled_logistic": Simple(_logistic, _ridge, linear=True, scaled=True),
    "forest": Simple(_forest, _forest_regressor),
    "nearest_centroid": Simple(_centroids, _neighbours),
    "complement_nb": Simple(_naive_bayes, _ridge),
    "kernel": Simple(lambda seed: [*_logistic(seed), *_kernels(seed)], _kernel_regressors),
}
