"""What every feasible molecule must satisfy, apart from the score and free of charge.

A constraint answers with a *violation*: 0 where it holds, growing with the distance to it, so that a search can return
to the feasible region.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from molecules.chemistry import Mol
from reprogram.errors import ConfigError

SLOW = 1.0  # milliseconds of a judgement above which a search that screens candidates asks only for those it would choose


class Required(NamedTuple):
    """What a constraint requires in every molecule: in words, as a molecule where it is one, and as a SMARTS pattern."""

    text: str
    mol: Mol | None
    pattern: str = ""


class Constraint(ABC):
    """One condition on a molecule. A new one is a file of this package, or an entry point of ``molecules.constraints``;
    ``constraints.others.NAME={option: value}`` adds it to a run.

    cost: of one judgement, roughly in milliseconds; the cheapest are asked first.
    """

    name: str
    cost: ClassVar[float] = 0.1

    @abstractmethod
    def violation(self, mol: Mol) -> float:
        """0 if the molecule satisfies it, more the further it is away."""

    def reasons(self, mol: Mol) -> list[str]:
        """What about the molecule violates it, in words; [] where it holds."""
        return [f"{self.name} is missed by {missed:.3g}"] if (missed := self.violation(mol)) > 0 else []

    def columns(self) -> list[str]:
        """Names of what it adds to the table of molecules."""
        return []

    def values(self, mol: Mol) -> list[str]:
        """A text for each of :meth:`columns`."""
        return []

    def required(self) -> list[Required]:
        """Structures that every feasible molecule contains."""
        return []

    def conflict(self, required: Required) -> str:
        """Why no feasible molecule can contain what another constraint requires; "" if it can."""
        return ""


@dataclass
class Constraints:
    """All of them together. ``check`` names a contradiction before the first molecule is evaluated."""

    items: Sequence[Constraint] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [item.name for item in self.items]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ConfigError(f"two constraints are named '{twice[0]}'; give one of them another name.")
        ordered = sorted(self.items, key=lambda item: item.cost)
        self._quick, self._slow = ([i for i in ordered if (i.cost > SLOW) is slow] for slow in (False, True))
        self.check()

    def violations(self, mol: Mol) -> dict[str, float]:
        """Violation by name; all 0 for a feasible molecule."""
        return {item.name: item.violation(mol) for item in self.items}

    def total(self, mol: Mol, enough: float = math.inf) -> float:
        """Sum of all violations; above ``enough`` the sum so far, which the more expensive constraints cannot lower."""
        return _sum(self._quick + self._slow, mol, enough)

    def quick_total(self, mol: Mol, enough: float = math.inf) -> float:
        """The same without constraints that take more than ``SLOW`` ms a molecule."""
        return _sum(self._quick, mol, enough)

    def slow_total(self, mol: Mol) -> float:
        """The violations that :meth:`quick_total` leaves out."""
        return _sum(self._slow, mol, math.inf)

    def reasons(self, mol: Mol) -> list[str]:
        """Why a molecule is not feasible, in words."""
        return [reason for item in self.items for reason in item.reasons(mol)]

    def check(self) -> None:
        """Raises ConfigError where one constraint requires what another one excludes."""
        for required in (r for item in self.items for r in item.required()):
            for item in self.items:
                if why := item.conflict(required):
                    raise ConfigError(f"constraints contradict each other: {why}.")


def _sum(items: Sequence[Constraint], mol: Mol, enough: float) -> float:
    total = 0.0
    for item in items:
        total += item.violation(mol)
        if total > enough:
            break
    return total
