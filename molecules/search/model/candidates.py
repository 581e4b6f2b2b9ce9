"""Molecules that may be evaluated next, with what each expert reads of them, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from molecules.search.model.experts import SurrogateExpert
from molecules.search.operators.offspring import Child


class CandidateList:
    """Children in order, no molecule twice."""

    def __init__(self, children: Sequence[Child] = ()) -> None:
        self.children: list[Child] = []
        self.names: dict[str, Child] = {}
        self._rows: dict[str, Any] = {}  # what an expert reads of the first of them, by its key
        self.extend(children)

    def __len__(self) -> int:
        return len(self.children)

    def extend(self, children: Sequence[Child]) -> None:
        """More of them; those that are here already are left out."""
        for child in children:
            if child.smiles not in self.names:
                self.names[child.smiles] = child
                self.children.append(child)

    def rows(self, expert: SurrogateExpert, first: int = 0) -> Any:
        """What this expert reads of all from number ``first`` on."""
        have = self._rows.get(expert.key)
        if have is None or len(have) < len(self):
            new = expert.read([c.mol for c in self.children[0 if have is None else len(have) :]])
            have = new if have is None else have.joined(new)
            self._rows[expert.key] = have
        return have.take(np.arange(first, len(self))) if first else have

    def take(self, wanted: Sequence[int] | np.ndarray) -> CandidateList:
        """Some of them, with what was computed."""
        found = CandidateList([self.children[i] for i in wanted])
        found._rows = {key: rows.take(np.asarray(wanted, int)) for key, rows in self._rows.items() if len(rows) == len(self)}
        return found

    def without(self, names: Sequence[str]) -> CandidateList:
        """All but these SMILES."""
        gone = set(names)
        return self.take([i for i, c in enumerate(self.children) if c.smiles not in gone])
