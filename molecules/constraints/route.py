"""A route from the stock of building blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from rdkit import Chem

from molecules.chemistry import Mol
from molecules.constraints.base import Constraint
from molecules.routes.retro import EFFORT, STEPS, RouteFinder
from molecules.routes.route import COLUMNS, Route, told
from molecules.routes.stock import Blocks

NONE = "none found"


@dataclass
class Routed(Constraint):
    """A route of at most ``steps`` reactions from ``blocks`` is found; it is a column of the table of molecules.

    The search for it is bounded (``effort``: molecules that are taken apart), so "none found" is no proof. strict: False
    looks for routes and refuses nothing.
    """

    blocks: Blocks = field(default_factory=Blocks)
    steps: int = STEPS
    effort: int = EFFORT
    strict: bool = True
    name: str = "route"
    cost: ClassVar[float] = 20.0

    @cached_property
    def finder(self) -> RouteFinder:
        """Finds routes; the stock is read at first use."""
        return RouteFinder(self.blocks.read(), self.steps, self.effort)

    def __getstate__(self) -> dict[str, object]:
        """Worker processes read the stock themselves."""
        return {name: value for name, value in self.__dict__.items() if name != "finder"}

    def route(self, mol: Mol) -> Route | None:
        """The route that was found."""
        return self.finder.find(Chem.MolToSmiles(mol))

    def violation(self, mol: Mol) -> float:
        return float(self.strict and self.route(mol) is None)

    def reasons(self, mol: Mol) -> list[str]:
        return [f"no route of {self.steps} steps was found"] if self.violation(mol) else []

    def columns(self) -> list[str]:
        return [*COLUMNS, "price"] if self.finder.stock.priced else list(COLUMNS)

    def values(self, mol: Mol) -> list[str]:
        route = self.route(mol)
        found = {"route": NONE} if route is None else told(route, self.finder.stock)
        return [found.get(name, "") for name in self.columns()]
