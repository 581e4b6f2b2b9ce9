"""A route of a few steps from the stock to a given molecule: the templates backwards, and every step run forward again.

The search is bounded by a number of molecules that are taken apart, never by time, so it answers the same on every machine.
"None found" is no proof that there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from molecules import chemistry
from molecules.routes.reactions import Reaction, reactions
from molecules.routes.rivals import competing
from molecules.routes.route import Route
from molecules.routes.stock import Stock

STEPS = 3
EFFORT = 60  # molecules that are taken apart for one route
NEAR = 12  # the same for a molecule that differs by an edit from one with a route
PAIRS = 12  # ways to write the reactants of a step (other halogens) that are tried


@dataclass
class RouteFinder:
    """Looks for routes of at most ``steps`` reactions from ``stock``, taking at most ``effort`` molecules apart for each.

    selective: no step in which another group would react as well.
    """

    stock: Stock
    steps: int = STEPS
    effort: int = EFFORT
    selective: bool = True
    _found: dict[str, Route | None] = field(default_factory=dict)

    def find(self, smiles: str) -> Route | None:
        """The shortest route to a canonical SMILES that was found; None where none was."""
        if smiles not in self._found:
            self._found[smiles] = self._search(smiles)
        return self._found[smiles]

    def near(self, smiles: str, known: Route) -> Route | None:
        """A route to a molecule that was made by an edit of ``known.smiles``, by the same reactions: whatever is made on the way
        there may be used."""
        ready = {node.smiles: node for node in known.nodes()}
        own = frozenset(node.reaction for node in known.made)
        return _Search(self, ready, own, NEAR).within(smiles, known.steps)

    def _search(self, smiles: str) -> Route | None:
        return _Search(self, {}, None, self.effort).deepening(smiles, self.steps)


class _Search:
    """One search. ready: molecules that need not be bought, with their routes. names: reactions, None for all. left: molecules
    that may be taken apart."""

    def __init__(self, finder: RouteFinder, ready: Mapping[str, Route], names: frozenset[str] | None, left: int) -> None:
        self.stock, self.selective = finder.stock, finder.selective
        self.ready, self.names, self.left = ready, names, left
        self.failed: dict[str, int] = {}  # molecule -> steps that were not enough

    def deepening(self, smiles: str, most: int) -> Route | None:
        """The first route of 0, 1, … ``most`` steps."""
        for steps in range(most + 1):
            route = self.within(smiles, steps)
            if route is not None or self.left <= 0:
                return route
        return None

    def within(self, smiles: str, steps: int) -> Route | None:
        """A route of at most ``steps`` reactions."""
        if smiles in self.stock.blocks:
            return Route(smiles)
        if steps == 0 or self.failed.get(smiles, 0) >= steps:
            return None
        self.left -= 1
        for step, precursors in disconnections(smiles, self.names):
            if self.left <= 0:
                return None
            route = self.joined(smiles, step, precursors, steps - 1)
            if route is not None:
                return route
        self.failed[smiles] = steps
        return None

    def joined(self, smiles: str, step: Reaction, precursors: tuple[str, ...], rest: int) -> Route | None:
        """A route whose last step is this one, with ``rest`` steps before it."""
        parts: list[list[Route]] = [self.at_hand(text) for text in precursors]
        missing = [i for i, part in enumerate(parts) if not part]
        if len(missing) > rest:
            return None
        for i in missing:
            made = self.within(precursors[i], rest - (len(missing) - 1 if i == missing[0] else 0))
            if made is None:
                return None
            rest -= made.steps
            parts[i] = [made]
        pairs = [(first,) for first in parts[0]] if len(parts) == 1 else [(a, b) for a in parts[0] for b in parts[1]]
        for pair in pairs[:PAIRS]:
            names = [part.smiles for part in pair]
            if smiles in step.products(names) and not (self.selective and competing(step, names)):
                return Route(smiles, step.name, pair)
        return None

    def at_hand(self, smiles: str) -> list[Route]:
        """What can be bought, or is ready, of a molecule and its spellings."""
        found = [Route(text) for text in spellings(smiles) if text in self.stock.blocks]
        return [*found, *(self.ready[text] for text in spellings(smiles) if text in self.ready)]


@lru_cache(maxsize=5_000)
def disconnections(smiles: str, names: frozenset[str] | None = None) -> list[tuple[Reaction, tuple[str, ...]]]:
    """Every last step (by these reactions) that could make a molecule, those that leave the smallest largest part first."""
    found = []
    for step in [s for s in reactions().values() if names is None or s.name in names]:
        for precursors in step.precursors(smiles):
            if smiles not in precursors:
                found.append((step, precursors))
    return sorted(found, key=lambda entry: (max(map(size_of, entry[1])), entry[0].name, entry[1]))


def size_of(smiles: str) -> int:
    """Heavy atoms; 0 where it cannot be parsed."""
    mol = chemistry.parse(smiles)
    return 0 if mol is None else mol.GetNumHeavyAtoms()


@lru_cache(maxsize=20_000)
def spellings(smiles: str) -> tuple[str, ...]:
    """The molecule, and with other leaving groups where a template backwards has put bromine, chlorine or an acid."""
    found = [smiles]
    swaps = (("Br", "I"), ("Br", "Cl"), ("Cl", "F"), ("Br", "F"), ("B(O)O", "B1OC(C)(C)C(C)(C)O1"))
    for old, new in swaps:
        for at in re.finditer(re.escape(old), smiles):
            text = chemistry.canonical(smiles[: at.start()] + new + smiles[at.end() :])
            if text is not None and text not in found:
                found.append(text)
    return tuple(found)
