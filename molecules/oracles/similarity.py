"""Tanimoto similarity to one or several molecules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.oracles.base import MAXIMISE, MoleculeOracle
from reprogram.errors import DataError


@dataclass
class Similarity(MoleculeOracle):
    """Similarity to the nearest reference. ``counts``: unfolded counts (as in PMO), else 2,048 bits."""

    to: str | Sequence[str]
    kind: str = "ecfp4"
    counts: bool = True
    direction: str = MAXIMISE
    name: str = "similarity"

    def __post_init__(self) -> None:
        self.range = (0.0, 1.0)
        self._fingerprint = chemistry.sparse_counts if self.counts else chemistry.bit_fingerprint
        self._references = []
        for text in [self.to] if isinstance(self.to, str) else self.to:
            mol = chemistry.parse(text)
            if mol is None:
                raise DataError(f"similarity reference '{text}' is not a SMILES that RDKit can parse.")
            self._references.append(self._fingerprint(mol, self.kind))
        if not self._references:
            raise DataError("similarity has no reference; give oracle.to one or several SMILES.")

    def value(self, mol: Mol) -> float:
        return float(chemistry.similarity(self._fingerprint(mol, self.kind), self._references).max())
