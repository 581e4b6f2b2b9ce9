"""Published rules of which inputs to label first, to stand beside ours: TypiClust and ProbCover.

Both see the source's last features on the unit sphere, as their authors do with self-supervised ones. Neither needs a label.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.cluster import KMeans

Rule = Callable[[np.ndarray, list[int], int, int], np.ndarray]
NEIGHBOURS, MOST_GROUPS, SMALLEST = 20, 500, 5  # TypiClust's own settings
PURITY = 0.95  # ProbCover's: share of balls that hold one group alone


def sphere(features: np.ndarray) -> np.ndarray:
    """Features [N, F] with length 1."""
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))


def typiclust(points: np.ndarray, budgets: list[int], classes: int, seed: int) -> np.ndarray:
    """Rows in the order in which they are labelled (Hacohen, Dekel & Weinshall 2022, arXiv 2202.02794, algorithm 1).

    points [N, F]; budgets: labels after each round; classes is not used.
    """
    chosen: list[int] = []
    for budget in budgets:
        count = min(budget, MOST_GROUPS)
        group = KMeans(count, n_init=1, random_state=seed).fit(points).labels_
        while len(chosen) < budget:
            labels_in = np.bincount(group[chosen], minlength=count) if chosen else np.zeros(count, int)
            sizes = np.bincount(group, minlength=count)
            open_groups = [g for g in range(count) if sizes[g] >= SMALLEST and sizes[g] > labels_in[g]]
            best = min(open_groups or np.flatnonzero(sizes > labels_in), key=lambda g: (labels_in[g], -sizes[g]))
            members = np.setdiff1d(np.flatnonzero(group == best), chosen)
            chosen.append(int(members[np.argmin(_mean_distance(points[members]))]))
    return np.array(chosen, int)


def _mean_distance(points: np.ndarray) -> np.ndarray:
    """Mean distance [N] to the nearest neighbours: the inverse of typicality."""
    neighbours = min(NEIGHBOURS, len(points) - 1)
    if neighbours < 1:
        return np.zeros(len(points))
    gaps = np.sqrt(np.maximum(2 - 2 * points @ points.T, 0))
    return np.asarray(np.sort(gaps, 1)[:, 1 : neighbours + 1].mean(1))


def probcover(points: np.ndarray, budgets: list[int], classes: int, seed: int) -> np.ndarray:
    """Rows in the order in which they are labelled (Yehuda, Dekel, Hacohen & Weinshall 2022, arXiv 2205.11320).

    The radius is the largest at which balls of one k-means group (as many as classes) are ``PURITY`` of all.
    """
    gaps = np.sqrt(np.maximum(2 - 2 * points @ points.T, 0))
    near = gaps < _radius(gaps, KMeans(classes, n_init=1, random_state=seed).fit(points).labels_)
    uncovered, chosen = np.ones(len(points), bool), list[int]()
    while len(chosen) < budgets[-1]:
        gain = (near & uncovered).sum(1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        uncovered &= ~near[chosen[-1]]
    return np.array(chosen, int)


def _radius(gaps: np.ndarray, group: np.ndarray) -> float:
    """By bisection; a ball holds all points nearer than the radius."""
    nearest_other = np.where(group[:, None] == group[None], np.inf, gaps).min(1)
    return float(np.quantile(nearest_other, 1 - PURITY))


RIVALS: dict[str, Rule] = {"TypiClust": typiclust, "ProbCover": probcover}
