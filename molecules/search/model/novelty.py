"""Molecules that hold common substructures which nothing evaluated so far has: for objectives that are 0 until a hidden
substructure is found.

Of 60 hidden fragments (11 to 17 atoms, each in 2 to 6 of 6,000 molecules of ZINC), 1,000 assembled molecules contain 5 to 7;
1,000 chosen for novelty, each from four, contain 13.
"""

from __future__ import annotations

import math
from collections import Counter

from molecules.search.model.counts import LEVELS, CountRows


class Novelty:
    """Value of a molecule: the sum of log(1 + frequency) of its ECFP6 substructures that were not seen yet.

    usual: molecules in which the frequencies are counted; without them every substructure counts the same.
    """

    def __init__(self, usual: CountRows) -> None:
        self._weights = Counter(s for entries in usual.entries for s in _substructures(entries))
        self._seen: set[int] = set()

    def see(self, rows: CountRows) -> None:
        """These were evaluated."""
        for entries in rows.entries:
            self._seen.update(_substructures(entries))

    def choose(self, rows: CountRows, count: int) -> list[int]:
        """Up to ``count`` rows, each the newest of its share of ``rows``; all count as seen then."""
        share = max(len(rows) // max(count, 1), 1)
        chosen = []
        for first in range(0, min(share * count, len(rows)), share):
            group = [_substructures(entries) - self._seen for entries in rows.entries[first : first + share]]
            best = max(range(len(group)), key=lambda i: sum(map(self._weight, group[i])))
            self._seen |= group[best]
            chosen.append(first + best)
        return chosen

    def _weight(self, substructure: int) -> float:
        return math.log1p(self._weights[substructure]) if self._weights else 1.0


def _substructures(entries: list[int]) -> set[int]:
    return {entry // LEVELS for entry in entries}
