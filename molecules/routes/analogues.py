"""Analogues with a route of a molecule without one: the templates backwards, the most similar blocks in place of what cannot
be bought, and every step run forward again.

As a projection into the space of routes (Gao et al., SynFormer, 2024; Luo et al., ChemProjector, 2024), without a learned
model: cuts that leave parts at hand are tried first. Bounded by a number of molecules that are taken apart, never by time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice, product

import numpy as np

from molecules import chemistry
from molecules.routes.prints import packed
from molecules.routes.reactions import Reaction
from molecules.routes.retro import disconnections, size_of, spellings
from molecules.routes.route import Route
from molecules.routes.stock import Stock

EFFORT = 4  # molecules that are taken apart for one projection
CUTS = 4  # last steps that are tried of each
BLOCKS = 3  # most similar blocks that stand in for a part
LARGEST = 18  # heavy atoms of a part that blocks stand in for
PAIRS = 4  # pairs of parts that are run forward for a cut
KEPT = 4  # analogues that are returned

Applied = Callable[[Reaction, tuple[Route, ...]], "Route | None"]


class Analogues:
    """Analogues from a stock. applied: runs a step and says whether its product is one of the space's."""

    def __init__(self, stock: Stock, steps: int, applied: Applied) -> None:
        self.stock, self.steps, self.applied = stock, steps, applied

    def of(self, smiles: str, known: Route | None = None) -> list[Route]:
        """Routes to the molecule, or to molecules like it, the most similar first. known: the route to a molecule that it was
        made from by an edit; whatever is made on the way there may be used."""
        ready = {node.smiles: node for node in known.nodes()} if known else {}
        return [route for route in _Projection(self, ready).made(smiles, self.steps) if route.reaction]


class _Projection:
    """One projection. left: molecules that may be taken apart."""

    def __init__(self, options: Analogues, ready: Mapping[str, Route]) -> None:
        self.options, self.stock, self.ready, self.left = options, options.stock, ready, EFFORT

    def made(self, smiles: str, steps: int) -> list[Route]:
        """Routes of about ``steps`` reactions, the one to the most similar molecule first."""
        found: dict[str, Route] = {}
        if steps == 0 or self.left <= 0:
            return []
        self.left -= 1
        for step, parts in self.cuts(smiles):
            columns = [self.part(step, slot, text, steps - 1) for slot, text in enumerate(parts)]
            for reactants in islice(product(*columns), PAIRS):
                route = self.options.applied(step, reactants)
                if route is not None:
                    found.setdefault(route.smiles, route)
        return nearest(smiles, list(found.values()))[:KEPT]

    def cuts(self, smiles: str) -> list[tuple[Reaction, tuple[str, ...]]]:
        """Last steps, those with the most atoms at hand first, then those that leave the smallest largest part."""
        options = disconnections(smiles)
        share = [sum(size_of(p) for p in parts if self.at_hand(p)) / max(sum(map(size_of, parts)), 1) for _, parts in options]
        return [options[i] for i in np.argsort(-np.array(share), kind="stable")[:CUTS].tolist()]

    def part(self, step: Reaction, slot: int, smiles: str, steps: int) -> list[Route]:
        """What can take the place of a reactant, the most similar first."""
        found = [route for route in self.at_hand(smiles) if step.fits(slot, route.smiles)]
        if found:
            return found[:2]
        if size_of(smiles) <= LARGEST:
            found = [Route(text) for text in self.stock.alike(smiles, step.slots[slot])[:BLOCKS]]
        found += [route for route in self.made(smiles, steps) if step.fits(slot, route.smiles)]
        return nearest(smiles, found)[:BLOCKS]

    def at_hand(self, smiles: str) -> list[Route]:
        """What can be bought, or is ready, of a molecule and its spellings."""
        found = [Route(text) for text in spellings(smiles) if text in self.stock.blocks]
        return found or [self.ready[text] for text in spellings(smiles) if text in self.ready]


def nearest(smiles: str, routes: list[Route]) -> list[Route]:
    """By similarity to a molecule, the most similar first."""
    found = [packed(text) for text in (smiles, *(route.smiles for route in routes))]
    words = [row for row in found if row is not None]
    if len(routes) < 2 or len(words) < len(found):
        return routes
    rows = np.unpackbits(np.stack(words).view(np.uint8), axis=1).astype(np.float32)
    order = np.argsort(-chemistry.tanimoto(rows[:1], rows[1:])[0], kind="stable")
    return [routes[i] for i in order.tolist()]
