"""Plain features of molecules: fingerprints and descriptors, for baselines and for hybrid programs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from molecules.chemistry import fingerprint_matrix, parse, tanimoto
from reprogram.errors import DataError
from reprogram.interfaces import Featuriser


def _parsed(batch: Sequence[str]) -> list:
    mols = [parse(smiles) for smiles in batch]
    for smiles, mol in zip(batch, mols):
        if mol is None:
            raise DataError(f"'{smiles}' is not a SMILES that RDKit can parse.")
    return mols


class ECFP4(Featuriser):
    """Folded Morgan bits of radius 2: [B, bits] of 0 and 1 (Rogers & Hahn 2010)."""

    models = ("forest", "logistic")

    def __init__(self, bits: int = 2048) -> None:
        self.bits = bits

    def __call__(self, batch: Sequence[str]) -> np.ndarray:
        return fingerprint_matrix(_parsed(batch), "ecfp4", self.bits)


class Descriptors(Featuriser):
    """All of RDKit's two-dimensional descriptors, signed logarithm, what cannot be computed as 0: [B, about 217]."""

    models = ("scaled_logistic", "forest")

    def __call__(self, batch: Sequence[str]) -> np.ndarray:
        _parsed(batch)
        return np.stack([_descriptors(smiles) for smiles in batch])


@lru_cache(maxsize=20_000)
def _descriptors(smiles: str) -> np.ndarray:
    from rdkit.Chem.Descriptors import descList

    mol = parse(smiles)
    values = np.array([function(mol) for _, function in descList], dtype=np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)


def nearest_tanimoto(strings: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """[N, M] Tanimoto similarity of ECFP4 bits."""
    featurise = ECFP4()
    return tanimoto(featurise(strings), featurise(others))
