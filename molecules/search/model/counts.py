"""ECFP6 with counts, unfolded, laid out for fast min-max similarities.

A substructure that occurs three times becomes three entries (it, 1), (it, 2), (it, 3): the sum of minima of two molecules is
then the number of entries that they share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from molecules.chemistry import Mol, sparse_counts

GROW = 256  # molecules by which a table grows
LEVELS = 64  # occurrences of one substructure that are told apart


class CountRows:
    """Entries of N molecules."""

    def __init__(self, entries: list[list[int]]) -> None:
        self.entries = entries

    @classmethod
    def of(cls, mols: Sequence[Mol]) -> CountRows:
        return cls([_entries(mol) for mol in mols])

    def __len__(self) -> int:
        return len(self.entries)

    def take(self, rows: Sequence[int] | np.ndarray) -> CountRows:
        return CountRows([self.entries[i] for i in rows])

    def joined(self, other: CountRows) -> CountRows:
        """These rows and then the other's."""
        return CountRows([*self.entries, *other.entries])


def _entries(mol: Mol) -> list[int]:
    counts = sparse_counts(mol, "ecfp6").GetNonzeroElements()
    return [feature * LEVELS + level for feature, count in counts.items() for level in range(min(count, LEVELS))]


class CountTable:
    """Molecules to which others are compared; more are added at the end."""

    def __init__(self) -> None:
        self.size = 0
        self._columns: dict[int, int] = {}  # entry -> row of the table
        self._table = np.zeros((4096, GROW), dtype=np.float32)  # entry x molecule
        self._totals = np.zeros(GROW, dtype=np.float32)

    def add(self, rows: CountRows) -> None:
        for entries in rows.entries:
            places = [self._columns.setdefault(e, len(self._columns)) for e in entries]
            self._make_room()
            self._table[places, self.size] = 1
            self._totals[self.size] = len(entries)
            self.size += 1

    def similarity(self, rows: CountRows) -> np.ndarray:
        """Sum of minima over sum of maxima, float64 [len(rows), size]; 0 where both are empty."""
        known = [[c for c in map(self._columns.get, entries) if c is not None] for entries in rows.entries]
        ends = np.cumsum([0, *map(len, known)])
        places = np.fromiter((c for row in known for c in row), np.int32, ends[-1])
        sparse = csr_matrix((np.ones(len(places), np.float32), places, ends), shape=(len(rows), len(self._table)))
        shared = np.asarray(sparse @ self._table)[:, : self.size].astype(float)
        total = np.array([len(e) for e in rows.entries], float)[:, None] + self._totals[None, : self.size] - shared
        return np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)

    def _make_room(self) -> None:
        height, width = self._table.shape
        if len(self._columns) > height:
            self._table = np.vstack([self._table, np.zeros((max(height, len(self._columns) - height), width), np.float32)])
        if self.size == width:
            self._table = np.hstack([self._table, np.zeros((len(self._table), GROW), np.float32)])
            self._totals = np.r_[self._totals, np.zeros(GROW, np.float32)]
