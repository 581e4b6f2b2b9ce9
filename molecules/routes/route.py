"""A synthesis route: building blocks, reactions, intermediates, product. Written as text, read back, and replayed.

The text has one step after the other, ``REACTION: REACTANT + REACTANT -> PRODUCT``, with ``; `` between them; the last product is
the molecule. A building block that is the molecule itself is ``in stock: SMILES``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from molecules import chemistry
from molecules.routes.reactions import reaction
from molecules.routes.stock import Stock
from reprogram.errors import DataError

IN_STOCK = "in stock"
COLUMNS = ("route", "steps", "blocks")


@dataclass(frozen=True)
class Route:
    """How a molecule is made. smiles: canonical. reaction: name of the last step ("": a building block), of ``reactants``."""

    smiles: str
    reaction: str = ""
    reactants: tuple[Route, ...] = ()

    def nodes(self) -> Iterator[Route]:
        """Every molecule of the route, what is made first, first."""
        for reactant in self.reactants:
            yield from reactant.nodes()
        yield self

    @cached_property
    def made(self) -> tuple[Route, ...]:
        """Every different molecule that is made, in order: the steps. What is needed twice is made once."""
        return tuple({node.smiles: node for node in self.nodes() if node.reaction}.values())

    @cached_property
    def steps(self) -> int:
        """Number of reactions."""
        return len(self.made)

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """The different building blocks, in the order of use."""
        return tuple(dict.fromkeys(node.smiles for node in self.nodes() if not node.reaction))

    def __str__(self) -> str:
        steps = (f"{n.reaction}: {' + '.join(r.smiles for r in n.reactants)} -> {n.smiles}" for n in self.made)
        return "; ".join(steps) or f"{IN_STOCK}: {self.smiles}"


def parse_route(text: str) -> Route:
    """The route that ``str(route)`` wrote. Raises DataError for other texts."""
    known: dict[str, Route] = {}
    last = None
    for step in text.strip().split("; "):
        name, colon, rest = step.partition(": ")
        if not colon or not rest:
            raise DataError(f"'{step:.80}' is not a step of a route; it must be 'REACTION: REACTANT + REACTANT -> PRODUCT'.")
        if name == IN_STOCK:
            last = Route(rest.strip())
            continue
        left, arrow, product = rest.partition(" -> ")
        if not arrow:
            raise DataError(f"'{step:.80}' is not a step of a route; ' -> PRODUCT' is missing.")
        reactants = tuple(known.get(smiles) or Route(smiles) for smiles in left.split(" + "))
        last = known[product] = Route(product, name, reactants)
    assert last is not None
    return last


def replay(route: Route | str, stock: Stock | None = None) -> str:
    """Run every step of a route again, from the building blocks on; returns the product's canonical SMILES.

    route: a :class:`Route`, or its text. stock: what the building blocks must be in. Raises DataError at the first step that
    does not give its product, and for a building block that cannot be read or bought.
    """
    route = parse_route(route) if isinstance(route, str) else route
    for block in route.blocks:
        if chemistry.canonical(block) is None:
            raise DataError(f"the building block '{block}' is not a SMILES that RDKit can parse.")
        if stock is not None and block not in stock.blocks:
            raise DataError(f"the building block {block} is not in the stock.")
    for node in route.made:
        found = reaction(node.reaction).products([reactant.smiles for reactant in node.reactants])
        if node.smiles not in found:
            of = " and ".join(r.smiles for r in node.reactants)
            raise DataError(f"{node.reaction} of {of} gives {' or '.join(found) or 'nothing'}, not {node.smiles}.")
    return chemistry.canonical(route.smiles) or ""


def told(route: Route, stock: Stock) -> dict[str, str]:
    """``route``, ``steps``, ``blocks`` (with the user's names), and the sum of ``price`` where the stock has prices."""
    names = [f"{s} ({name})" if (name := stock.blocks[s].name) else s for s in route.blocks if s in stock.blocks]
    found = {"route": str(route), "steps": str(route.steps), "blocks": " + ".join(names)}
    if stock.priced:
        total = stock.price(route.blocks)
        found["price"] = "" if math.isnan(total) else f"{total:g}"
    return found
