"""Gobbi's 2D pharmacophore fingerprint (Gobbi & Poppinger 1998), ten times faster than RDKit's Python loop.

RDKit's ``Generate.Gen2DFingerprint(mol, Gobbi_Pharm2D.factory)`` sets a bit for every pair and triangle of feature
points with its binned graph distances. The same pairs and triangles are numbered here with NumPy; two molecules share
exactly as many codes as they share bits there, which a test checks.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from rdkit import Chem
from rdkit.Chem.Pharm2D import Gobbi_Pharm2D

from molecules.chemistry import Mol

NEAREST, FARTHEST = 2, 8  # graph distances below 2 make no pair; 8 and more share a bin
UNCONNECTED = 100


@lru_cache(maxsize=64)
def _triangles(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second, third = np.meshgrid(*[np.arange(points)] * 3, indexing="ij")
    ordered = (first < second) & (second < third)
    return first[ordered], second[ordered], third[ordered]


def gobbi_codes(mol: Mol) -> np.ndarray:
    """Sorted unique codes of all two- and three-point pharmacophores of a molecule: int [number of bits]."""
    matches = Gobbi_Pharm2D.factory.GetMolFeats(mol)  # by family; every Gobbi feature is a single atom
    points = np.array([(family, atoms[0]) for family, hits in enumerate(matches) for atoms in hits], dtype=np.int64)
    if len(points) < 2:
        return np.zeros(0, dtype=np.int64)
    family, atoms = points[:, 0], points[:, 1]
    distance = Chem.GetDistanceMatrix(mol)[np.ix_(atoms, atoms)]
    valid = (distance >= NEAREST) & (distance < UNCONNECTED)
    bins = np.minimum(distance, FARTHEST).astype(np.int64)
    i, j = np.nonzero(np.triu(valid, 1))
    pairs = (family[i] * 16 + family[j]) * 16 + bins[i, j]
    i, j, k = _triangles(len(points))
    real = valid[i, j] & valid[i, k] & valid[j, k]
    i, j, k = i[real], j[real], k[real]
    triangles = _triangle_codes(family[i], family[j], family[k], bins[i, j], bins[i, k], bins[j, k])
    return np.unique(np.concatenate([pairs, triangles]))


def _triangle_codes(
    f0: np.ndarray, f1: np.ndarray, f2: np.ndarray, d01: np.ndarray, d02: np.ndarray, d12: np.ndarray
) -> np.ndarray:
    """Codes in which triangles that differ only in the order of points of one family are equal (f0 <= f1 <= f2)."""
    same_start, same_end = f0 == f1, f1 == f2
    swap = same_start & ~same_end
    d02, d12 = np.where(swap, np.minimum(d02, d12), d02), np.where(swap, np.maximum(d02, d12), d12)
    swap = same_end & ~same_start
    d01, d02 = np.where(swap, np.minimum(d01, d02), d01), np.where(swap, np.maximum(d01, d02), d02)
    alike = same_start & same_end
    distances = np.stack([d01, d02, d12])
    distances = np.where(alike, np.sort(distances, axis=0), distances)
    families = (f0 * 16 + f1) * 16 + f2
    return 1_000_000 + ((families * 16 + distances[0]) * 16 + distances[1]) * 16 + distances[2]


def code_tanimoto(a: np.ndarray, b: np.ndarray) -> float:
    """Tanimoto of two sets of sorted unique codes; 0 if both are empty."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    total = len(a) + len(b) - shared
    return shared / total if total else 0.0
