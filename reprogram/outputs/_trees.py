"""Extremely randomised trees as plain tensors: grown by scikit-learn, kept without a pickle, evaluated in torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DEEPEST = 64  # steps from root to leaf; a program from a stranger may hold a circle


@dataclass
class Trees:
    """split [trees, nodes]: feature, or -1 in a leaf. threshold, left, right alike; value [trees, nodes, t]."""

    split: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """[B, F] -> [B, t], averaged over trees."""
        trees = torch.arange(len(self.split))[:, None]
        at = torch.zeros(len(self.split), len(features), dtype=torch.long)
        rows = torch.arange(len(features))[None, :]
        last = self.split.shape[1] - 1
        for _ in range(DEEPEST):
            feature = self.split[trees, at]
            inside = feature >= 0
            if not inside.any():
                break
            value = features[rows, feature.clamp(0, features.shape[1] - 1)]
            follow = torch.where(value <= self.threshold[trees, at], self.left[trees, at], self.right[trees, at])
            at = torch.where(inside, follow.clamp(0, last), at)
        return self.value[trees, at].mean(0)


def grow(
    features: np.ndarray, targets: np.ndarray, weight: np.ndarray, count: int, seed: int
) -> tuple[Trees, np.ndarray]:
    """Trees on ``targets`` [n, t] by squared error (on 0/1 columns that is the Gini index), and out-of-bag predictions."""
    from sklearn.ensemble import ExtraTreesRegressor

    forest = ExtraTreesRegressor(
        count, max_features="sqrt", bootstrap=True, oob_score=False, random_state=seed, n_jobs=1
    ).fit(features, targets[:, 0] if targets.shape[1] == 1 else targets, sample_weight=weight)
    grown = [estimator.tree_ for estimator in forest.estimators_]
    nodes = max(tree.node_count for tree in grown)

    def padded(rows: list[np.ndarray], fill: float, kind: torch.dtype) -> Tensor:
        whole = np.full((count, nodes, *rows[0].shape[1:]), fill)
        for i, row in enumerate(rows):
            whole[i, : len(row)] = row
        return torch.from_numpy(whole).to(kind)

    trees = Trees(
        padded([np.where(t.children_left < 0, -1, t.feature) for t in grown], -1, torch.long),
        padded([t.threshold for t in grown], 0.0, torch.float32),
        padded([t.children_left for t in grown], 0, torch.long),
        padded([t.children_right for t in grown], 0, torch.long),
        padded([t.value[:, :, 0] for t in grown], 0.0, torch.float32),
    )
    return trees, _out_of_bag(forest, features, targets)


def _out_of_bag(forest, features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[n, t]: each row by the trees that did not see it; the mean target where every tree did."""
    total, times = np.zeros(targets.shape), np.zeros(len(targets))
    for tree, drawn in zip(forest.estimators_, forest.estimators_samples_):
        unseen = np.setdiff1d(np.arange(len(targets)), drawn)
        if len(unseen):
            total[unseen] += tree.predict(features[unseen]).reshape(len(unseen), -1)
            times[unseen] += 1
    mean = np.broadcast_to(targets.mean(0), targets.shape)
    return np.where(times[:, None] > 0, total / np.maximum(times, 1)[:, None], mean)
