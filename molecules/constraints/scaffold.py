"""A scaffold with its attachment points."""

from __future__ import annotations

from dataclasses import dataclass

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.constraints.base import Constraint, Required


@dataclass
class Scaffold(Constraint):
    """The molecule holds this scaffold (SMILES) and grows only at its attachment points ``*``, if it has any."""

    smiles: str
    name: str = "scaffold"

    def __post_init__(self) -> None:
        self.locked = chemistry.locked_scaffold(self.smiles)

    def required(self) -> list[Required]:
        return [Required(f"scaffold {self.smiles}", self.locked)]

    def violation(self, mol: Mol) -> float:
        return float(not chemistry.keeps_scaffold(mol, self.locked))
