"""A scaffold with its attachment points."""

from __future__ import annotations

from dataclasses import dataclass

from rdkit import Chem

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.constraints.base import Constraint, Required
from molecules.rgroups import points, r_groups


@dataclass
class Scaffold(Constraint):
    """The molecule holds this scaffold (SMILES) and grows only at its attachment points ``*``, if it has any.

    Of two parts (``A|B``, each with a ``*``) the molecule joins both, and what is between them is its linker.
    """

    smiles: str
    name: str = "scaffold"

    def __post_init__(self) -> None:
        self.locked = chemistry.locked_scaffold(self.smiles)

    @property
    def links(self) -> bool:
        """Two parts with one attachment point each?"""
        return len(Chem.GetMolFrags(self.locked)) == 2 and len(points(self.locked)) == 2

    def columns(self) -> list[str]:
        return ["linker"] if self.links else [f"R{i}" for i, _ in enumerate(points(self.locked), 1)]

    def values(self, mol: Mol) -> list[str]:
        groups = r_groups(mol, self.locked)
        return [""] * len(self.columns()) if groups is None else groups[: len(self.columns())]

    def required(self) -> list[Required]:
        return [Required(f"scaffold {self.smiles}", self.locked)]

    def violation(self, mol: Mol) -> float:
        return float(not chemistry.keeps_scaffold(mol, self.locked))
