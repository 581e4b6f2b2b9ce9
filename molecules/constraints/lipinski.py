"""The rule of five."""

from __future__ import annotations

from dataclasses import dataclass

from rdkit.Chem import rdMolDescriptors

from molecules.chemistry import Mol
from molecules.constraints.base import Constraint


@dataclass
class Lipinski(Constraint):
    """At most ``broken`` of the rule of five's four limits are broken (Lipinski 1997)."""

    broken: int = 0
    name: str = "lipinski"

    def violation(self, mol: Mol) -> float:
        count = (
            (rdMolDescriptors._CalcMolWt(mol) > 500)
            + (rdMolDescriptors.CalcCrippenDescriptors(mol)[0] > 5)
            + (rdMolDescriptors.CalcNumLipinskiHBD(mol) > 5)
            + (rdMolDescriptors.CalcNumLipinskiHBA(mol) > 10)
        )
        return float(max(count - self.broken, 0))
