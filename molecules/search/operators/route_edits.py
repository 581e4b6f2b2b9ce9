"""Edits of synthesis routes: every child is made by running its reactions, so it comes with a route that replays.

The edits are those of genetic programming on trees: another block at a leaf, another reaction at a node, subtrees exchanged
between two routes, a step more, a step less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from random import Random

from molecules import chemistry
from molecules.routes.reactions import Reaction, reaction, reactions
from molecules.routes.rivals import competing
from molecules.routes.route import Route
from molecules.spaces.routes import RouteSpace

WEIGHTS = {
    "change_block": 6.0,
    "cross": 3.0,
    "join": 1.0,
    "grow": 2.0,
    "insert": 2.0,
    "shorten": 2.0,
    "change_reaction": 1.5,
    "redraw": 1.0,
}
NEAR = 0.6  # share of new blocks that are drawn among those similar to the old one
TRIES = 4  # attempts at one edit
Path = tuple[int, ...]  # which reactant, from the product on


class RouteEdits:
    """Random routes, and children of routes. ``max_atoms``: larger products are dropped."""

    def __init__(self, space: RouteSpace, random: Random, max_atoms: int) -> None:
        self.space, self.stock, self.random, self.max_atoms = space, space.stock, random, max_atoms
        self.everything = list(self.stock.blocks)

    def child(self, name: str, parent: Route, mate: Callable[[], Route]) -> Route | None:
        """A child by the edit of this name; None if it did not work out."""
        edit = {"cross": self.cross, "join": self.join}.get(name)
        for _ in range(TRIES):
            made = edit(parent, mate()) if edit else getattr(self, name)(parent)
            if made is not None and made.reaction and made.smiles != parent.smiles:
                return made
        return None

    def new(self, most: int = 3) -> Route | None:
        """A random route of one to ``most`` steps."""
        route = Route(self.random.choice(self.everything))
        for _ in range(self.random.randint(1, min(most, self.space.steps))):
            route = self.grow(route) or route
        return route if route.reaction else None

    # Edits ----------------------------------------------------------------------------------------------------------------

    def grow(self, route: Route) -> Route | None:
        """A step more: the product reacts with a block, or by itself."""
        fitting = roles(route.smiles)
        if not fitting:
            return None
        step, slot = self.random.choice(fitting)
        return self._react(step, slot, route)

    def insert(self, route: Route) -> Route | None:
        """A step more at a building block, before it is used."""
        path = self.random.choice(list(leaves(route)))
        grown = self.grow(at(route, path))
        return None if grown is None or not path else self.rebuilt(route, path, grown)

    def change_block(self, route: Route) -> Route | None:
        """Another building block in the place of one, often a similar one."""
        path = self.random.choice(list(leaves(route)))
        slot = self._slot(route, path)
        new = None if slot is None else self._block(slot, at(route, path).smiles)
        return None if new is None else self.rebuilt(route, path, Route(new))

    def redraw(self, route: Route) -> Route | None:
        """A building block in the place of any part of the route, a similar one to what that part makes."""
        paths = [path for path in places(route) if path]
        path = self.random.choice(paths) if paths else ()
        slot = self._slot(route, path)
        new = None if slot is None else self._block(slot, at(route, path).smiles)
        return None if new is None else self.rebuilt(route, path, Route(new))

    def change_reaction(self, route: Route) -> Route | None:
        """Another reaction at a step: of the same reactants where there is one, else of one of them and a block."""
        path, node = self._step(route)
        if not node.reactants:
            return None
        kept = self.random.choice(node.reactants)
        fitting = [(step, slot) for step, slot in roles(kept.smiles) if step.name != node.reaction]
        if not fitting:
            return None
        others = [other for other in node.reactants if other is not kept]
        same = [(s, i) for s, i in fitting if s.size == 2 and others and s.fits(1 - i, others[0].smiles)]
        step, slot = self.random.choice(same or fitting)
        made = self.applied(step, _ordered(slot, kept, others[0])) if same else self._react(step, slot, kept)
        return None if made is None else self.rebuilt(route, path, made)

    def shorten(self, route: Route) -> Route | None:
        """A step less: something is used in the place of what was made of it."""
        path, node = self._step(route)
        if not node.reactants:
            return None
        part = self.random.choice(node.reactants)
        slot = self._slot(route, path)
        if slot is not None and not slot[0].fits(slot[1], part.smiles):
            return None
        return self.rebuilt(route, path, part)

    def cross(self, route: Route, other: Route) -> Route | None:
        """A part of another route in the place of a part of this one."""
        path = self.random.choice([path for path in places(route) if path] or [()])
        slot = self._slot(route, path)
        if slot is None:
            return None
        parts = [part for part in other.nodes() if slot[0].fits(slot[1], part.smiles)]
        return self.rebuilt(route, path, self.random.choice(parts)) if parts else None

    def join(self, route: Route, other: Route) -> Route | None:
        """The products of two routes, or of a part of the other, react with each other."""
        part = self.random.choice(list(other.nodes()))
        pairs = [(s, i) for s, i in roles(route.smiles) if s.size == 2 and s.fits(1 - i, part.smiles)]
        if not pairs:
            return None
        step, slot = self.random.choice(pairs)
        return self.applied(step, _ordered(slot, route, part))

    # Helpers --------------------------------------------------------------------------------------------------------------

    def rebuilt(self, route: Route, path: Path, new: Route) -> Route | None:
        """The route with ``new`` at a place, and everything after it made again; None where a step does not work."""
        if not path:
            return new if new.steps <= self.space.steps else None
        inner = self.rebuilt(route.reactants[path[0]], path[1:], new)
        if inner is None:
            return None
        reactants = list(route.reactants)
        reactants[path[0]] = inner
        return self.applied(reaction(route.reaction), tuple(reactants))

    def applied(self, step: Reaction, reactants: tuple[Route, ...]) -> Route | None:
        """A step of these routes; None where it gives nothing, too many products, or too large ones, or where another group
        would react."""
        names = [r.smiles for r in reactants]
        if self.space.selective and competing(step, names):
            return None
        products = step.products(names)
        if not 1 <= len(products) <= self.space.products:
            return None
        made = Route(self.random.choice(products), step.name, reactants)
        mol = chemistry.parse(made.smiles)
        small = mol is not None and mol.GetNumHeavyAtoms() <= self.max_atoms
        back = any(node.smiles == made.smiles for part in reactants for node in part.nodes())
        return made if small and not back and made.steps <= self.space.steps else None

    def _react(self, step: Reaction, slot: int, route: Route) -> Route | None:
        if step.size == 1:
            return self.applied(step, (route,))
        partners = self.stock.fitting(step, 1 - slot)
        if not partners:
            return None
        return self.applied(step, _ordered(slot, route, Route(self.random.choice(partners))))

    def _block(self, slot: tuple[Reaction, int], old: str) -> str | None:
        """A block for a slot: often one of those most similar to ``old``, the nearest most often."""
        if self.random.random() < NEAR:
            near = self.stock.alike(old, slot[0].slots[slot[1]])
            if near:
                return near[int(math.exp(self.random.random() * math.log(len(near) + 1))) - 1]
        fitting = self.stock.fitting(*slot)
        return self.random.choice(fitting) if fitting else None

    def _step(self, route: Route) -> tuple[Path, Route]:
        """(place, what is made there) of any step; of the block that a route without steps is."""
        path = self.random.choice([path for path in places(route) if at(route, path).reaction] or [()])
        return path, at(route, path)

    @staticmethod
    def _slot(route: Route, path: Path) -> tuple[Reaction, int] | None:
        """What the part of a route at a place is used for; None for the product."""
        return (reaction(at(route, path[:-1]).reaction), path[-1]) if path else None


def _ordered(slot: int, first: Route, second: Route) -> tuple[Route, Route]:
    """The first as the reactant number ``slot`` of two."""
    return (first, second) if slot == 0 else (second, first)


@lru_cache(maxsize=20_000)
def roles(smiles: str) -> list[tuple[Reaction, int]]:
    """Reactions in which a molecule can take part, and as which reactant."""
    return [(step, slot) for step in reactions().values() for slot in range(step.size) if step.fits(slot, smiles)]


def places(route: Route, here: Path = ()) -> list[Path]:
    """Every place of a route."""
    return [here, *(p for i, part in enumerate(route.reactants) for p in places(part, (*here, i)))]


def leaves(route: Route) -> list[Path]:
    """The places of building blocks."""
    return [path for path in places(route) if not at(route, path).reaction]


def at(route: Route, path: Path) -> Route:
    """What stands at a place."""
    for i in path:
        route = route.reactants[i]
    return route
