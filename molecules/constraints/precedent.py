"""Ring systems and atom environments that have been made before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from molecules.chemistry import Mol
from molecules.constraints.base import Constraint
from molecules.precedent import RARE, Unusual, unusual
from reprogram.ranges import Range


@dataclass
class Precedent(Constraint):
    """Every ring system was seen in at least ``rings`` of the table's molecules, and every atom with its neighbours in at
    least ``environments``; 0 requires nothing.

    The violation of each rare part is between 0 (as often as required) and 1 (never seen), on a logarithmic scale.
    """

    rings: Annotated[int, Range(0, 10**6)] = RARE
    environments: Annotated[int, Range(0, 10**6)] = RARE
    name: str = "precedent"
    cost: ClassVar[float] = 0.5

    def unusual(self, mol: Mol) -> list[Unusual]:
        """What is seen less often than required, the rarest first."""
        return unusual(mol, self.rings, self.environments)

    def reasons(self, mol: Mol) -> list[str]:
        return [str(item) for item in self.unusual(mol)]

    def violation(self, mol: Mol) -> float:
        least = {"ring system": self.rings, "environment": self.environments}
        return float(sum(1 - math.log1p(u.seen) / math.log1p(least[u.kind]) for u in self.unusual(mol)))
