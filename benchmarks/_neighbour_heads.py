"""Heads of the literature on features that lie in memory, for neighbours.py."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

from reprogram.outputs._ridge import highest_likelihood, left_factors

SHARES, SHARPNESS = (0.5, 1.0, 3.0, 10.0), (1.0, 5.5, 20.0)  # α and β of Tip-Adapter
STEPS, RATE = 300, 0.1  # of CLAP


class PLS(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Scores of partial least squares of one-hot classes."""

    def __init__(self, components: int = 2) -> None:
        self.components = components

    def fit(self, values: np.ndarray, labels: np.ndarray) -> Self:
        most = min(self.components, values.shape[1], len(values) - 1)
        targets = (labels[:, None] == np.unique(labels)).astype(float)
        self.model_ = PLSRegression(most, scale=False, tol=1e-4).fit(values, targets)
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(self.model_.transform(values))


def pls_then_kernel(train: Tensor, labels: np.ndarray, test: Tensor, classes: int) -> np.ndarray:
    """Partial least squares, then a support-vector machine with a Gaussian kernel; components by cross-validation.

    Both steps see the values only through products, so the training examples span all that matters.
    """
    centre = train.mean(0)
    left, squares = left_factors(train - centre)
    root = squares.sqrt()
    spanned = ((test - centre).double() @ (train - centre).double().T) @ left / root
    whole = Pipeline([("pls", PLS()), ("svm", SVC(C=10.0, gamma="scale"))])
    few = min(3, int(np.bincount(labels).min()))
    search = GridSearchCV(whole, {"pls__components": [max(classes - 1, 2), 2 * classes]}, cv=few)
    scores = search.fit((left * root).numpy(), labels).decision_function(spanned.numpy())
    return np.stack([-scores, scores], 1) if scores.ndim == 1 else np.asarray(scores)


def tip_adapter(train: Tensor, labels: Tensor, test: Tensor, names: Tensor) -> Tensor:
    """Training-free Tip-Adapter (Zhang et al. 2022, arXiv 2111.03930): logits of the names + α·exp(-β(1 - cosine))·labels;
    α and β by the likelihood of left-out examples, where the paper takes a validation set."""
    known, asked = F.normalize(train, dim=1), F.normalize(test, dim=1)
    one_hot = F.one_hot(labels, len(names)).float()
    options = [(share, sharp) for share in SHARES for sharp in SHARPNESS]
    most = one_hot.sum(0).max()

    def logits(rows: Tensor, alone: bool) -> Tensor:
        cosine = rows @ known.T
        found = []
        for share, sharp in options:
            near = torch.exp(-sharp * (1 - cosine))
            near = near.fill_diagonal_(0) if alone else near
            left = one_hot.sum(0) - one_hot if alone else one_hot.sum(0)  # a left-out example must not make its class quieter
            found.append(rows @ names.T + share * most * near @ one_hot / left.clamp_min(1))
        return torch.stack(found)

    best = highest_likelihood(logits(known, True).double(), one_hot.double()).argmax()
    return logits(asked, False)[best]


def clap(train: Tensor, labels: Tensor, test: Tensor, names: Tensor) -> Tensor:
    """CLAP (Silva-Rodríguez et al. 2024, arXiv 2312.12730): a linear probe that starts at the class names and is drawn back to
    them, each class by how well its name does on its own examples."""
    known, one_hot = F.normalize(train, dim=1), F.one_hot(labels, len(names)).float()
    scale = names.norm(dim=1).mean()
    start = F.normalize(names, dim=1)
    zero = (scale * known @ start.T).softmax(1)
    drawn = (one_hot * zero).sum(0) / one_hot.sum(0).clamp_min(1)
    weight = start.clone().requires_grad_()
    optimiser: Any = torch.optim.SGD([weight], RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = F.cross_entropy(scale * known @ F.normalize(weight, dim=1).T, labels)
        (loss + (drawn * (weight - start).square().sum(1)).sum()).backward()
        optimiser.step()
        schedule.step()
    return (scale * F.normalize(test, dim=1) @ F.normalize(weight.detach(), dim=1).T).detach()
