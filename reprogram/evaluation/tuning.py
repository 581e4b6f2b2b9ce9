"""Choose a setting of a plain model by cross-validation on the training labels, as a program is chosen.

The criterion is that of :mod:`reprogram.selection`: squared error of probabilities on one fitted inverse temperature, which then
also calibrates the model's answers. Forests are judged by their out-of-bag answers, which cost no further fit. What it may cost
is bounded by rule, never by a clock, so that the same labels give the same choice everywhere: at most ``MOST_ROWS``
examples are tuned on, and more folds are used where examples are few.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reprogram.training import brier

Make = Callable[[], Any]  # -> an unfitted scikit-learn model
MOST_ROWS = 800  # examples that settings are chosen on; more change the choice little and cost much
FOLDS, FEW, REPEATS = 5, 200, 2  # up to FEW examples, the folds are drawn REPEATS times
DOUBT = 1.0  # standard errors by which another setting must be better than the default
LEAST = 1e-4  # probability of a class that a fold never saw


@dataclass
class Tuned:
    """The chosen model, fitted on all labels. error: its cross-validated squared error (NaN where it was not measured).

    chosen: its place in the list. inverse_temperature: factor on its logits. columns: classes in all (0: values).
    """

    model: Any
    error: float
    chosen: int
    inverse_temperature: float
    columns: int

    def scores(self, features: Any) -> np.ndarray:
        """Probabilities [N, T], or values [N, 1]."""
        if not self.columns:
            return np.asarray(self.model.predict(features), dtype=float).reshape(-1, 1)
        logits = torch.from_numpy(logits_of(self.model, features, self.columns)) * self.inverse_temperature
        found = logits.softmax(1).numpy()
        absent = np.setdiff1d(np.arange(self.columns), self.model.classes_)
        found[:, absent] = 0.0
        return found / found.sum(1, keepdims=True)


def choose(makes: Sequence[Make], features: Any, labels: np.ndarray, columns: int, seed: int = 0) -> Tuned:
    """The model with the least cross-validated squared error, refitted on everything; the first unless clearly worse.

    makes: the settings, the default first. features: [n, F], dense or sparse. labels: int [n], or float [n] values
    (``columns`` 0).
    """
    rows = _sample(labels, columns, seed)
    parts = list(_folds(labels[rows], columns, seed))
    errors, factors = [], []
    for make in makes if parts else ():
        held, seen = _held_out(make, features[rows], labels[rows], parts, columns)
        error, factor = _judge(held[seen], labels[rows][seen], columns)
        errors.append(np.full(len(rows), np.nan))
        errors[-1][seen] = error
        factors.append(factor)
    best = _better(np.stack(errors)) if errors else 0
    model = _fit(makes[best](), features, labels)
    reached = float(np.nanmean(errors[best])) if errors else float("nan")
    return Tuned(model, reached, best, factors[best] if factors else 1.0, columns)


def _better(errors: np.ndarray) -> int:
    """errors [settings, n] -> the one with least mean, or the default where that is not better by ``DOUBT`` standard errors
    of the paired difference: with few labels the best of several scores is mostly luck."""
    best = int(np.nanargmin(np.round(np.nanmean(errors, 1), 6)))
    gain = errors[0] - errors[best]
    count = max(int(np.isfinite(gain).sum()), 1)
    return best if np.nanmean(gain) > DOUBT * np.nanstd(gain) / count**0.5 else 0


def logits_of(model: Any, features: Any, columns: int) -> np.ndarray:
    """[N, columns] float64; a class that the model never saw is as good as impossible."""
    if hasattr(model, "predict_proba"):
        found = np.log(np.maximum(model.predict_proba(features), LEAST))
    else:
        found = np.asarray(model.decision_function(features))
        found = np.stack([-found / 2, found / 2], 1) if found.ndim == 1 else found
    return _placed(found, model.classes_, columns)


def _placed(found: np.ndarray, classes: np.ndarray, columns: int) -> np.ndarray:
    placed = np.full((len(found), columns), found.min(initial=0.0) + np.log(LEAST))
    placed[:, classes] = found
    return placed


def _held_out(
    make: Make, features: Any, labels: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]], columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [n, T] or values [n, 1] by models that did not see the example, and which examples have any."""
    model = make()
    if getattr(model, "oob_score", False):
        return _out_of_bag(_fit(model, features, labels), columns)
    total, times = np.zeros((len(labels), columns or 1)), np.zeros(len(labels))
    for kept, held in parts:
        if columns and len(np.unique(labels[kept])) < 2:
            continue
        model = _fit(make(), features[kept], labels[kept])
        answers = logits_of(model, features[held], columns) if columns else model.predict(features[held])[:, None]
        total[held] += answers
        times[held] += 1
    return total / np.maximum(times, 1)[:, None], times > 0


def _out_of_bag(model: Any, columns: int) -> tuple[np.ndarray, np.ndarray]:
    found = model.oob_decision_function_ if columns else model.oob_prediction_[:, None]
    seen = np.isfinite(found).all(1)
    found = np.where(seen[:, None], found, 0.0)
    return (_placed(np.log(np.maximum(found, LEAST)), model.classes_, columns) if columns else found), seen


def _judge(held: np.ndarray, labels: np.ndarray, columns: int) -> tuple[np.ndarray, float]:
    """Squared error [n] and the fitted inverse temperature."""
    if not columns:
        return np.square(held[:, 0] - labels), 1.0
    logits, known = torch.from_numpy(held), torch.from_numpy(labels.astype(np.int64))
    factor = brier.inverse_temperature(logits, known, "classification")
    squashed = brier.squash(logits * factor, "classification")
    return brier.squared_error(squashed, known, "classification").numpy(), factor


def _fit(model: Any, features: Any, labels: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="Some inputs do not have OOB scores")
        return model.fit(features, labels)


def _sample(labels: np.ndarray, columns: int, seed: int) -> np.ndarray:
    """Rows to tune on: all, or a stratified sample."""
    from reprogram.targets.base import draw

    if len(labels) <= MOST_ROWS:
        return np.arange(len(labels))
    return np.sort(draw(labels.astype(int) if columns else labels.astype(float), seed, total=MOST_ROWS))


def _folds(labels: np.ndarray, columns: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kept, held out) rows. A class of one example is always kept; with nothing to hold out there are no folds."""
    from sklearn.model_selection import KFold, StratifiedKFold

    counts = np.bincount(labels.astype(int)) if columns else np.array([len(labels)])
    single = np.flatnonzero(counts == 1) if columns else np.array([], dtype=int)
    free = np.flatnonzero(~np.isin(labels, single))
    most = int(counts.max())
    if most < 2 or len(free) < 4:
        return []
    found = []
    for repeat in range(REPEATS if len(labels) <= FEW else 1):
        kind = StratifiedKFold if columns else KFold
        splitter = kind(min(FOLDS, most), shuffle=True, random_state=seed + repeat)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class with fewer examples than folds
            for _, held in splitter.split(free, labels[free]):
                found.append((np.setdiff1d(np.arange(len(labels)), free[held]), free[held]))
    return found
