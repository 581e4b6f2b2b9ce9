"""Children by edits of molecules that need no route: many are bred and ranked by the surrogate, the best are projected.

An edit of a molecule goes where edits of its route do not lead; most of its results have no route, so each of the most
promising is replaced by the most similar molecules that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from molecules.chemistry import Mol
from molecules.constraints import Constraints
from molecules.routes.analogues import Analogues
from molecules.routes.route import Route
from molecules.search.operators.offspring import Offspring

AGAIN = 40  # most promising of a generation that may be parents of the next
Promise = Callable[[Sequence[Mol]], np.ndarray]  # what the surrogate expects of molecules: float [N]
Draw = Callable[[], str]


class Edited(NamedTuple):
    """A molecule without a route. root: the molecule with a route that the edits began at. edit: the last one."""

    smiles: str
    mol: Mol
    root: str
    edit: str
    promise: float = 0.0


class Projection:
    """Breeds molecules without routes from such with routes, and projects the most promising."""

    def __init__(self, offspring: Offspring, analogues: Analogues, constraints: Constraints) -> None:
        self.offspring, self.analogues, self.constraints = offspring, analogues, constraints
        self.random = offspring.random

    def bred(self, draw: Draw, count: int, generations: int, promise: Promise, slack: float) -> list[Edited]:
        """About ``count`` molecules a generation, all of them, the most promising first."""
        found: dict[str, Edited] = {}
        for generation in range(generations):
            best = sorted(found.values(), key=lambda e: -e.promise)[:AGAIN]
            made: dict[str, Edited] = {}
            for _ in range(count):
                parent = self.random.choice(best) if generation and best and self.random.random() < 0.8 else None
                smiles = parent.smiles if parent else draw()
                child = self.offspring.child(smiles, draw)
                if child is None or child.smiles in found or child.smiles in made:
                    continue
                if self.constraints.quick_total(child.mol, slack) <= slack:
                    made[child.smiles] = Edited(child.smiles, child.mol, parent.root if parent else smiles, child.edit)
            if made:
                values = promise([e.mol for e in made.values()])
                found |= {e.smiles: e._replace(promise=float(v)) for e, v in zip(made.values(), values)}
        return sorted(found.values(), key=lambda e: -e.promise)

    def routes(self, edited: Edited, known: Route | None) -> list[Route]:
        """Routes to it, or to molecules like it."""
        return self.analogues.of(edited.smiles, known)
