"""How often a substructure occurs."""

from __future__ import annotations

from dataclasses import dataclass

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.oracles.base import MAXIMISE, MoleculeOracle
from reprogram.ranges import Count, NotEmpty


@dataclass
class Substructure(MoleculeOracle):
    """Number of matches of a SMARTS pattern, at most ``most``; the default answers 0 or 1."""

    pattern: NotEmpty
    most: Count = 1
    direction: str = MAXIMISE
    name: str = "substructure"

    def __post_init__(self) -> None:
        self.range = (0.0, float(self.most))
        self._query = chemistry.smarts(self.pattern, "oracle.pattern")

    def value(self, mol: Mol) -> float:
        return float(min(len(mol.GetSubstructMatches(self._query)), self.most))
