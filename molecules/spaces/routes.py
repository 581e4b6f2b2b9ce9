"""The space of molecules that a few reactions make of building blocks (``space=routes``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar

from molecules.routes.retro import RouteFinder
from molecules.routes.route import Route, told
from molecules.routes.stock import Blocks, Stock
from reprogram.ranges import Checked, Count, Range


@dataclass
class RouteSpace(Checked):
    """Routes of at most ``steps`` reactions from ``blocks``.

    products: a step that could give more different products of its reactants is not taken. effort: molecules that are taken
    apart to find a route to a given molecule. selective: no step in which another group of a reactant would react as well.
    """

    group: ClassVar[str] = "space."

    blocks: Blocks = field(default_factory=Blocks)
    steps: Annotated[int, Range(1, 10)] = 5
    products: Count = 1
    effort: Count = 60
    selective: bool = True

    @cached_property
    def stock(self) -> Stock:
        """The building blocks, read at first use."""
        return self.blocks.read()

    @cached_property
    def finder(self) -> RouteFinder:
        """Finds routes to given molecules."""
        return RouteFinder(self.stock, min(self.steps, 3), self.effort, self.selective)

    def told(self, route: Route) -> dict[str, str]:
        """The columns of a molecule in tables: its route, and what it takes."""
        return told(route, self.stock)
