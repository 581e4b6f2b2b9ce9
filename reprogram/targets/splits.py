"""Who is trained on and who is tested: stratified, or whole groups of like examples on one side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from reprogram.errors import ConfigError, DataError


def hold_out_groups(groups: Sequence[Hashable], test_size: int | float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, test rows) with every group on one side, in random order of groups.

    ``test_size``: examples if >= 1, else a share; the test side has at most so many. A group of more than half of it goes
    to training, so that one family cannot be the whole test (the balanced scaffold split of Yang et al. 2019, Chemprop).
    Raises DataError where nothing is left on a side.
    """
    names, members = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    size = int(test_size) if test_size >= 1 else round(test_size * len(groups))
    if not 0 < size < len(groups):
        raise ConfigError(f"target.test_size={test_size} leaves one side empty: there are {len(groups)} examples.")
    counts = np.bincount(members)
    chosen, taken = np.zeros(len(names), dtype=bool), 0
    for group in np.random.default_rng(seed).permutation(len(names)):
        if counts[group] <= max(1, size // 2) and taken + counts[group] <= size:
            chosen[group] = True
            taken += counts[group]
    test = chosen[members]
    if not test.any():
        raise DataError(
            f"No group of like examples is small enough for a test of {size}: the largest has {counts.max()} of "
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
