"""What the benchmark's oracles are made of: count similarity to one target, Gaussians, a geometric mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rdkit import DataStructs

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.oracles.base import MoleculeOracle
from reprogram.errors import DataError

Part = Callable[[Mol], float]


class PmoOracle(MoleculeOracle):
    """A named function of one molecule with values in [0, 1]."""

    range = (0.0, 1.0)

    def __init__(self, name: str, function: Part) -> None:
        self.name, self._function = name, function

    def value(self, mol: Mol) -> float:
        return self._function(mol)


def read(smiles: str) -> Mol:
    """A target molecule of the benchmark."""
    mol = chemistry.parse(smiles)
    if mol is None:
        raise DataError(f"'{smiles}' is not a SMILES that RDKit can parse.")
    return mol


def target_similarity(smiles: str, kind: str) -> Part:
    """Tanimoto of unfolded count fingerprints to one molecule."""
    target = chemistry.sparse_counts(read(smiles), kind)
    return lambda mol: DataStructs.TanimotoSimilarity(chemistry.sparse_counts(mol, kind), target)


def geometric(values: Sequence[float]) -> float:
    """Geometric mean as SciPy's ``gmean``: exp of the mean log, 0 as soon as one value is 0."""
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, values)) / len(values))


def geometric_mean(*parts: Part) -> Part:
    """Parts that must all be high."""
    return lambda mol: geometric([part(mol) for part in parts])


def shaped(part: Part, shape: Callable[[float], float]) -> Part:
    """A transform behind a part."""
    return lambda mol: shape(part(mol))
