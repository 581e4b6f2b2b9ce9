"""An oracle, a constraint and a search that need no option file: entry points name them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from molecules.chemistry import Mol
from molecules.constraints.base import Constraint
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.oracles.base import MoleculeOracle
from molecules.search.base import Search
from reprogram.ranges import Count


@dataclass
class Atoms(MoleculeOracle):
    """How many atoms of one element. element: its symbol."""

    element: str = "C"
    name: str = "atoms"

    def value(self, mol: Mol) -> float:
        return float(sum(atom.GetSymbol() == self.element for atom in mol.GetAtoms()))


@dataclass
class Light(Constraint):
    """At most so many heavy atoms."""

    most: Count = 6
    name: str = "light"

    def violation(self, mol: Mol) -> float:
        return float(max(mol.GetNumHeavyAtoms() - self.most, 0))


@dataclass
class Grow(Search):
    """Adds one atom to an end of the SMILES of the best molecule. atoms: the symbols to choose from."""

    atoms: str = "CNO"

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        best = start[0]
        for _ in range(10):
            children = [best.smiles + atom for atom in self.atoms]
            best = max([best, *evaluator.score(children, [best.smiles] * len(children))], key=lambda found: found.rank)
