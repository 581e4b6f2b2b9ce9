"""Who is learned from and who is tested: the one place where examples are drawn or held out.

Everything stratified goes through :func:`take`; :func:`hold_out` and :func:`draw` decide how many of each class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from reprogram.errors import ConfigError, DataError


def take(labels: np.ndarray, counts: dict[int, int], rng: np.random.Generator) -> list[np.ndarray]:
    """``counts[c]`` random rows of each class c of integer ``labels`` [N], class by class in the order of ``counts``."""
    return [rng.permutation(np.flatnonzero(labels == c))[:count] for c, count in counts.items()]


def are_classes(labels: np.ndarray) -> bool:
    """One class an example, not values or several answers: only these can be stratified."""
    return labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)


def hold_out(
    labels: np.ndarray, test_size: int | float, seed: int, groups: Sequence[Hashable] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, test rows): disjoint, complete, the same for the same seed. ``test_size``: examples if >= 1, else a share.

    Classes are stratified: each has its share of the test to within one example. A class of one example is trained on, and
    where the test is smaller than the number of classes the rest is still stratified. With ``groups`` (a name an example)
    whole groups are held out instead. :func:`what_the_split_did` says both in words. Raises ConfigError or DataError.
    """
    size = _test_size(len(labels), test_size, math.ceil if groups is None else round)
    if groups is not None:
        return _hold_out_groups(groups, size, seed)
    if not are_classes(labels):
        return _by_chance(len(labels), size, seed, None)
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() >= 2 and len(classes) <= min(size, len(labels) - size):
        return _by_chance(len(labels), size, seed, labels)
    rng = np.random.default_rng(seed)
    most = np.where(counts > 1, counts - 1, 0)  # each class keeps one to be learned from
    shares = _shares(counts * (counts > 1), min(size, int(most.sum())), most, rng)
    if not shares.sum():
        raise DataError("No class has two examples, so none can be held out for testing; give a test set of its own.")
    test = np.concatenate(take(labels, dict(zip(classes.tolist(), shares.tolist(), strict=True)), rng))
    held = np.zeros(len(labels), dtype=bool)
    held[test] = True
    return rng.permutation(np.flatnonzero(~held)), rng.permutation(test)


def what_the_split_did(labels: np.ndarray, test: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Notes on classes that a stratified test does not have, by reason."""
    if not are_classes(labels):
        return []
    counts, held = (np.bincount(part, minlength=len(classes)) for part in (labels, labels[test]))
    notes = []
    single = [classes[c] for c in np.flatnonzero((counts == 1) & (held == 0)).tolist()]
    if single:
        notes.append(f"{_listed(single)}: one example, used for training and not for testing.")
    small = [classes[c] for c in np.flatnonzero((counts > 1) & (held == 0)).tolist()]
    if small:
        notes.append(
            f"{_listed(small)}: no test example, because the test set has {len(test)} in all; target.test_size= gives more."
        )
    return notes


def draw(labels: np.ndarray, seed: int, shots: int | None = None, total: int | None = None) -> np.ndarray:
    """Rows of a few-label subset, in random order: ``total`` stratified, else ``shots`` a class, else all.

    labels: int [N]. ``shots=0`` draws none. ``total`` goes before ``shots``; it keeps class proportions but at least one
    example of each class that exists. A class with fewer than ``shots`` gives what it has (see :func:`fewer_than_asked`).
    Regression or multilabel labels are drawn uniformly. Raises ConfigError or DataError.
    """
    rng = np.random.default_rng(seed)
    shots = shots if total is None else None
    for key, value, least in (("target.shots", shots, 0), ("target.labels", total, 1)):
        if value is not None and value < least:
            raise ConfigError(f"{key}={value} must be at least {least}.")
    if total is not None and total > len(labels):
        raise DataError(f"target.labels={total} asks for more examples than the {len(labels)} there are to train on.")
    if shots is None and total is None:
        return rng.permutation(len(labels))
    if not are_classes(labels):
        if total is None:
            raise ConfigError("target.shots needs classes; give target.labels (in all) for this target.")
        return rng.permutation(len(labels))[:total]
    present, counts = np.unique(labels, return_counts=True)
    quota = _proportional(counts, total) if total is not None else np.minimum(counts, shots or 0)
    picked = take(labels, dict(zip(present.tolist(), quota.tolist(), strict=True)), rng)
    return rng.permutation(np.concatenate(picked)) if picked else np.empty(0, dtype=int)


def fewer_than_asked(labels: np.ndarray, shots: int | None, total: int | None, classes: Sequence[str]) -> list[str]:
    """A note on classes that have fewer examples than ``shots`` asks for."""
    if shots is None or total is not None or not are_classes(labels):
        return []
    present, counts = np.unique(labels, return_counts=True)
    short = [f"{classes[c]} ({count})" for c, count in zip(present, counts, strict=True) if count < shots]
    return [f"Fewer examples than target.shots={shots}, all of them are used: {_listed(short)}."] if short else []


def _listed(names: Sequence[str], shown: int = 10) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _test_size(count: int, test_size: int | float, whole: Callable[[float], int]) -> int:
    """Examples to hold out; at least one, and at least one is left."""
    if not (math.isfinite(test_size) and test_size > 0):
        raise ConfigError(
            f"target.test_size={test_size} must be more than 0: a number of examples, or a share below 1."
        )
    size = int(test_size) if test_size >= 1 else max(1, whole(test_size * count))
    if size >= count:
        raise ConfigError(f"target.test_size={test_size} leaves nothing to train on: there are {count} examples.")
    return size


def _by_chance(count: int, size: int, seed: int, strata: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(count), test_size=size, random_state=seed, stratify=strata)
    return train, test


def _shares(counts: np.ndarray, total: int, most: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Largest-remainder shares of ``total``, ties by chance, at most ``most`` each."""
    exact = counts / max(counts.sum(), 1) * total
    shares = np.minimum(np.floor(exact).astype(int), most)
    order = np.lexsort((rng.random(len(counts)), -(exact - np.floor(exact))))
    while shares.sum() < total:
        for i in order:
            if shares.sum() < total and shares[i] < most[i]:
                shares[i] += 1
    return shares


def _proportional(counts: np.ndarray, total: int) -> np.ndarray:
    """Largest-remainder shares of ``total``, at least one for each class while ``total`` allows it."""
    share = counts / counts.sum() * total
    quota = np.floor(share).astype(int)
    if total >= len(counts):
        quota = np.maximum(quota, 1)
    order = np.argsort(-(share - np.floor(share)), kind="stable")
    while quota.sum() < total:
        for i in order:
            if quota.sum() < total and quota[i] < counts[i]:
                quota[i] += 1
    while quota.sum() > total:
        quota[quota.argmax()] -= 1
    return quota


def _hold_out_groups(groups: Sequence[Hashable], size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, test rows) with every group on one side, in random order of groups.

    The test side has at most ``size`` examples. A group of more than half of it goes to training, so that one family cannot
    be the whole test (the balanced scaffold split of Yang et al. 2019, Chemprop). DataError where nothing is left on a side.
    """
    names, members = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    counts = np.bincount(members)
    chosen, taken = np.zeros(len(names), dtype=bool), 0
    for group in np.random.default_rng(seed).permutation(len(names)):
        if counts[group] <= max(1, size // 2) and taken + counts[group] <= size:
            chosen[group] = True
            taken += counts[group]
    test = chosen[members]
    if not test.any():
        raise DataError(
            f"No group of similar examples is small enough for a test of {size}: the largest has {counts.max()} of "
            f"{len(groups)}; use target.split=stratified or a looser grouping."
        )
    return np.flatnonzero(~test), np.flatnonzero(test)


def identity(sequences: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """[N, M] share of letters that two sequences have in common in order: longest common subsequence / longer length."""
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist

    return cdist(list(sequences), list(others), scorer=LCSseq.normalized_similarity, dtype=np.float32)


def identity_clusters(sequences: Sequence[str], threshold: float) -> np.ndarray:
    """Cluster number of each sequence: any two with an identity of ``threshold`` or more are in one (single linkage).

    So no test sequence has a training sequence that is nearer than ``threshold``. Greedy clustering, as in CD-HIT, does
    not promise that.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not 0 < threshold <= 1:
        raise ConfigError(f"target.identity={threshold} must lie in (0, 1].")
    rows, columns = [], []
    for start in range(0, len(sequences), 512):
        near = identity(sequences[start : start + 512], sequences) >= threshold
        i, j = np.nonzero(near)
        rows.append(i + start)
        columns.append(j)
    i, j = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(i), dtype=np.int8), (i, j)), shape=(len(sequences),) * 2)
    return connected_components(graph, directed=False)[1]
