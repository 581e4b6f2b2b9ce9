"""An oracle: how many carbon atoms a molecule has."""

from __future__ import annotations

import math
from dataclasses import dataclass

from molecules.chemistry import Mol
from molecules.oracles.base import MAXIMISE, MoleculeOracle


@dataclass
class Carbons(MoleculeOracle):
    direction: str = MAXIMISE
    name: str = "carbons"

    def __post_init__(self) -> None:
        self.range = (0.0, math.inf)

    def value(self, mol: Mol) -> float:
        return float(sum(atom.GetSymbol() == "C" for atom in mol.GetAtoms()))
