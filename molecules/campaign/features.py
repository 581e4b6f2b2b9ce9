"""What the predictors of a campaign read of a molecule: counted fragments as sparse rows, and quick descriptors.

A count c of a fragment sets c columns, so that Tanimoto on these rows is the min-max similarity of the counts. About 2 ms
and 0.5 kB a molecule: 100,000 candidates are featurised in minutes and kept in memory.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from rdkit import rdBase
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors
from scipy import sparse

from molecules.chemistry import Mol, generator, parse
from reprogram.errors import DataError

KINDS = ("ecfp4", "torsions")
FOLDED, MOST_COUNTED = 1 << 16, 16  # fragments are folded to so many, and counted up to so many
WIDTH = FOLDED * MOST_COUNTED
VERSION = f"1 {rdBase.rdkitVersion}"  # of stored rows


@dataclass
class MoleculeFeatures:
    """Rows for N molecules. prints: by kind, 0/1 [N, WIDTH]. descriptors: float32 [N, D], signed logarithms."""

    prints: dict[str, sparse.csr_matrix]
    descriptors: np.ndarray

    @classmethod
    def of(cls, smiles: Sequence[str]) -> MoleculeFeatures:
        """Raises DataError for what RDKit cannot parse."""
        mols = [_parsed(text) for text in smiles]
        prints = {kind: _counted(mols, kind) for kind in KINDS}
        rows = [descriptors(mol) for mol in mols]
        return cls(prints, np.array(rows, dtype=np.float32).reshape(len(mols), len(descriptors(_parsed("C")))))

    def __len__(self) -> int:
        return len(self.descriptors)

    def take(self, rows: Any) -> MoleculeFeatures:
        """These rows: a slice, or numbers [n]."""
        return MoleculeFeatures({k: p[rows] for k, p in self.prints.items()}, self.descriptors[rows])

    @classmethod
    def joined(cls, parts: Sequence[MoleculeFeatures]) -> MoleculeFeatures:
        """The rows of all parts, in order."""
        prints = {k: sparse.vstack([p.prints[k] for p in parts], format="csr") for k in KINDS}
        return cls(prints, np.concatenate([p.descriptors for p in parts]))

    def to_bytes(self) -> bytes:
        """An .npz file."""
        arrays = {"descriptors": self.descriptors}
        for kind, rows in self.prints.items():
            arrays |= {f"{kind}_indices": rows.indices.astype(np.int32), f"{kind}_indptr": rows.indptr.astype(np.int64)}
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> MoleculeFeatures:
        """Raises ValueError or KeyError where the rows do not belong together; nothing is unpacked, so nothing grows."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                plain = all(item.compress_type == zipfile.ZIP_STORED for item in archive.infolist())
        except zipfile.BadZipFile as error:
            raise ValueError("not an archive") from error
        if not plain:
            raise ValueError("packed rows are not read")
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            table = found["descriptors"]
            prints = {k: _sparse(found[f"{k}_indices"], found[f"{k}_indptr"], len(table)) for k in KINDS}
        for rows in prints.values():
            rows.check_format(full_check=True)
        return cls(prints, table)


def _parsed(smiles: str) -> Mol:
    mol = parse(smiles)
    if mol is None:
        raise DataError(f"'{smiles}' is not a SMILES that RDKit can parse.")
    return mol


def _sparse(indices: np.ndarray, indptr: np.ndarray, rows: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape=(rows, WIDTH))


def _counted(mols: Sequence[Mol], kind: str) -> sparse.csr_matrix:
    found = _torsions() if kind == "torsions" else generator(kind)
    indices, ends = list[int](), [0]
    for mol in mols:
        counts: dict[int, int] = {}
        for fragment, count in found.GetSparseCountFingerprint(mol).GetNonzeroElements().items():
            counts[fragment % FOLDED] = counts.get(fragment % FOLDED, 0) + count
        for fragment, count in counts.items():
            first = fragment * MOST_COUNTED
            indices += range(first, first + min(count, MOST_COUNTED))
        ends.append(len(indices))
    return _sparse(np.array(indices, np.int32), np.array(ends), len(mols))


@lru_cache(maxsize=1)
def _torsions() -> Any:
    return rdFingerprintGenerator.GetTopologicalTorsionGenerator()


@lru_cache(maxsize=1)
def _properties() -> Any:
    return rdMolDescriptors.Properties()


def descriptors(mol: Mol) -> np.ndarray:
    """RDKit's properties, surface areas by logP, refractivity and charge, MQN counts and BCUT values, as signed logarithms."""
    found = [*_properties().ComputeProperties(mol), *rdMolDescriptors.SlogP_VSA_(mol), *rdMolDescriptors.SMR_VSA_(mol)]
    found += [*rdMolDescriptors.PEOE_VSA_(mol), *rdMolDescriptors.MQNs_(mol), *_bcut(mol)]
    values = np.nan_to_num(np.array(found, dtype=float), nan=0.0, posinf=0.0, neginf=0.0)
    return np.sign(values) * np.log1p(np.abs(values))


def _bcut(mol: Mol) -> list[float]:
    try:
        return list(rdMolDescriptors.BCUT2D(mol))
    except (ValueError, RuntimeError):  # atoms without Gasteiger parameters
        return [0.0] * 8


def similarities(a: MoleculeFeatures, b: MoleculeFeatures, kind: str = "ecfp4") -> np.ndarray:
    """Tanimoto on counts of all pairs, [N, M]; 0 where both molecules have no fragment."""
    left, right = a.prints[kind], b.prints[kind]
    shared = (left @ right.T).toarray()
    total = np.diff(left.indptr)[:, None] + np.diff(right.indptr)[None, :] - shared
    return np.divide(shared, total, out=np.zeros(shared.shape), where=total > 0)
