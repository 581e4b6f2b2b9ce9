"""Which inputs of a pool to label: typical and diverse ones first, doubtful ones once there are labels.

Pure functions on points [N, p], a few principal components of what the frozen model answers (:func:`space`). Round one
needs no label: k-means finds as many groups as labels can be had, and each group is represented by its densest member
(TypiClust: Hacohen, Dekel & Weinshall 2022, arXiv 2202.02794) or by the one nearest to its centre. Later rounds go to
groups that no label stands for yet, weighted by how unsure the program is there. Inputs far from all others are never
chosen and never shown as typical; no two chosen inputs are nearly the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.modalities import modality
from reprogram.outputs._graph import nearest
from reprogram.outputs._pool import PoolReader, thinned
from reprogram.outputs._space import principal

COMPONENTS = 16
NEIGHBOURS = 20  # over which typicality is measured, as in TypiClust
FAR = 5.0  # median absolute deviations of the log distance to neighbours that set an outlier apart
ALIKE = 0.1  # of the usual distance to neighbours: nearer is nearly the same input
MOST_GROUPED = 20_000  # rows that k-means sees; larger pools are thinned evenly and keep their row numbers
MOST_GROUPS = 500  # TypiClust's own limit: more groups are noise


def space(outputs: Sequence[SourceOutput], spec: SourceSpec, target: TargetInfo, layers: Sequence[str] = ()) -> Tensor:
    """Points [N, p] of a pool in which like inputs are near.

    layers: taps as ``name@pooling``; empty takes those of ``output=ridge_taps`` and the pooled features; a model that
    shows its answers alone is read by standardised answers.
    """
    reader = PoolReader(spec, target, layers, True, 1)
    values = reader.values(list(outputs))
    sizes = [block.shape[1] for block in reader.blocks(list(outputs))]
    found = principal(values[thinned(len(values), MOST_GROUPED)].split(sizes, 1), COMPONENTS, reader.standard)
    return found(values)


def late_layers(spec: SourceSpec) -> list[str]:
    """The last two stages of an image source on 2x2 grids; empty for other sources and for a black-box model."""
    taps = [tap for tap in spec.taps if tap != "head"]
    return [f"{tap}@2" for tap in taps[-2:]] if modality(spec.kind).pixels else []


def choosing_layers(spec: SourceSpec, photographs: bool) -> list[str]:
    """Layers of the space to choose in: late ones for photographs, those of ``output=ridge_taps`` (empty) for the rest."""
    return late_layers(spec) if photographs else []


def outliers(points: Tensor) -> np.ndarray:
    """Bool [N]: rows whose neighbours are much farther than those of others."""
    if len(points) < 3:
        return np.zeros(len(points), bool)
    log = np.log(np.maximum(_neighbour_distance(points, NEIGHBOURS), 1e-12))
    middle = np.median(log)
    spread = 1.4826 * np.median(np.abs(log - middle))
    return log > middle + FAR * max(float(spread), 1e-3)


def first_round(points: Tensor, budget: int, seed: int = 0, how: str = "typical") -> np.ndarray:
    """Rows [budget] to label when there is no label yet, the largest groups first.

    how: ``typical`` (the densest member of each group) or ``medoid`` (the one nearest to its centre). Fewer than
    ``budget`` rows where the pool has fewer different inputs.
    """
    return next_round(points, np.zeros(0, int), np.ones(len(points)), budget, seed, how)


def next_round(
    points: Tensor, labelled: np.ndarray, doubt: np.ndarray, budget: int, seed: int = 0, how: str = "typical"
) -> np.ndarray:
    """Rows [budget] to label after those of ``labelled``: of the groups with fewest labels and then most doubt, the most
    typical member. doubt [N] in [0, 1]: see :func:`doubts`."""
    labelled = np.asarray(labelled, int)
    usable = np.flatnonzero(~outliers(points))
    if not len(usable):
        return np.zeros(0, int)
    usable = usable[thinned(len(usable), MOST_GROUPED).numpy()]
    within = points[torch.from_numpy(usable)].float()
    count = max(1, min(len(labelled) + budget, max(MOST_GROUPS, budget), len(usable)))
    group, centres = _groups(within.numpy(), count, seed)
    of_labelled = nearest(points[torch.from_numpy(labelled)].float(), torch.from_numpy(centres), 1)[1][:, 0].numpy()
    labels_in = np.bincount(of_labelled, minlength=len(centres))
    total = np.bincount(group, doubt[usable], minlength=len(centres))
    ranked = [usable[_by_typicality(within, np.flatnonzero(group == g), centres[g], how)] for g in range(len(centres))]
    return _take(points, ranked, labels_in, total, labelled, budget, ALIKE * _usual_distance(within))


def doubts(probabilities: np.ndarray) -> np.ndarray:
    """[N] in [0, 1]: 1 less the margin between the two most probable classes of [N, T]."""
    top = np.sort(probabilities, 1)[:, -2:]
    return 1.0 - (top[:, -1] - top[:, 0])


def _take(
    points: Tensor,
    ranked: list[np.ndarray],
    labels_in: np.ndarray,
    total: np.ndarray,
    labelled: np.ndarray,
    budget: int,
    alike: float,
) -> np.ndarray:
    """One row a turn: of the group with fewest labels (then most doubt) its next member that is like no other."""
    near = np.array(labelled, int)
    labels_in, queue, taken = labels_in.copy(), [list(rows) for rows in ranked], list[int]()
    while len(taken) < budget and any(queue):
        free = [g for g, rows in enumerate(queue) if rows]
        best = min(free, key=lambda g: (labels_in[g], -total[g], g))
        row = int(queue[best].pop(0))
        if row in near:
            continue
        if len(near):
            gap, _ = nearest(points[row : row + 1].float(), points[torch.from_numpy(near)].float(), 1)
            if float(gap) < alike**2:
                continue
        taken.append(row)
        near = np.append(near, row)
        labels_in[best] += 1
    return np.array(taken, int)


def _groups(points: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(group of each row, centres) of k-means."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    distinct = len(np.unique(points, axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly equal rows make fewer groups than were asked for
        found = KMeans(min(count, distinct), n_init=1, random_state=seed).fit(points)
    return found.labels_, found.cluster_centers_.astype(np.float32)


def _by_typicality(points: Tensor, members: np.ndarray, centre: np.ndarray, how: str) -> np.ndarray:
    """Members of a group, the one to be shown for it first."""
    own = points[torch.from_numpy(members)]
    if how == "medoid" or len(members) < 3:
        worth = (own - torch.from_numpy(centre)).square().sum(1).numpy()
    else:
        worth = _neighbour_distance(own, NEIGHBOURS)
    return members[np.argsort(worth, kind="stable")]


def _neighbour_distance(points: Tensor, neighbours: int) -> np.ndarray:
    """[N] mean distance to the nearest other rows."""
    squares, _ = nearest(points.float(), points.float(), min(neighbours, len(points) - 1), skip_self=True)
    return squares.sqrt().mean(1).numpy()


def _usual_distance(points: Tensor) -> float:
    """To the nearest dozens: where every input stands twice, the nearest one is its double."""
    if len(points) < 2:
        return 0.0
    sample = points[thinned(len(points), 1000)]
    squares, _ = nearest(sample, points, min(NEIGHBOURS + 1, max(2, len(points) // 4), len(points)))
    return float(squares[:, 1:].sqrt().mean(1).median())
