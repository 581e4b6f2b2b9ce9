"""What the surrogate sees of a molecule: folded count fingerprints and a few whole-molecule descriptors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rdkit.Chem import rdMolDescriptors

from molecules.chemistry import Mol, element_counts, fingerprint_matrix

BITS = 1024
ELEMENTS = ("C", "H", "N", "O", "F", "S", "Cl", "Br", "P")
DESCRIPTORS = (*ELEMENTS, "atoms", "rings", "aromatic rings", "tpsa", "logp", "donors", "fsp3")


def descriptors(mols: Sequence[Mol]) -> np.ndarray:
    """Element counts, size, rings, polarity and lipophilicity: float [N, 16], in the order of ``DESCRIPTORS``."""
    rows = np.zeros((len(mols), len(DESCRIPTORS)))
    first = len(ELEMENTS)
    for row, mol in zip(rows, mols):
        counts = element_counts(mol)
        row[:first] = [counts.get(element, 0) for element in ELEMENTS]
        row[first:] = (
            mol.GetNumAtoms(),
            rdMolDescriptors.CalcNumRings(mol),
            rdMolDescriptors.CalcNumAromaticRings(mol),
            rdMolDescriptors.CalcTPSA(mol),
            rdMolDescriptors.CalcCrippenDescriptors(mol)[0],
            rdMolDescriptors.CalcNumLipinskiHBD(mol),
            rdMolDescriptors.CalcFractionCSP3(mol),
        )
    return rows


class Features:
    """Rows for N molecules: one fingerprint matrix a kind, and descriptors."""

    def __init__(self, fingerprints: dict[str, np.ndarray], descriptors: np.ndarray) -> None:
        self.fingerprints, self.descriptors = fingerprints, descriptors

    @classmethod
    def of(cls, mols: Sequence[Mol], kinds: Sequence[str]) -> Features:
        prints = {kind: fingerprint_matrix(mols, kind, BITS, count_simulation=True) for kind in kinds}
        return cls(prints, descriptors(mols))

    def __len__(self) -> int:
        return len(self.descriptors)

    def take(self, rows: np.ndarray, kinds: Sequence[str] | None = None) -> Features:
        """These rows, of all fingerprints or of these kinds, ready to compute with."""
        names = self.fingerprints if kinds is None else kinds
        return Features({k: _loose(self.fingerprints[k][rows]) for k in names}, self.descriptors[rows])

    def compact(self) -> Features:
        """The same with a bit a bit, 1/32 of the memory: for keeping, not for computing."""
        return Features({k: np.packbits(f > 0, axis=1) for k, f in self.fingerprints.items()}, self.descriptors)

    def joined(self, other: Features) -> Features:
        """These rows and then the other's, for the fingerprints that both have."""
        prints = {k: np.vstack([f, other.fingerprints[k]]) for k, f in self.fingerprints.items()}
        return Features(prints, np.vstack([self.descriptors, other.descriptors]))


def _loose(rows: np.ndarray) -> np.ndarray:
    return np.unpackbits(rows, axis=1).astype(np.float32) if rows.dtype == np.uint8 else rows
