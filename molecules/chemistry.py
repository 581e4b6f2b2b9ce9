"""Parse, canonicalise, clean, compare and draw molecules: the only module that talks to RDKit about structure.

A molecule travels through the project as its *canonical SMILES*: the key of the ledger, the input of every oracle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors
from rdkit.Chem.Scaffolds import MurckoScaffold

from reprogram.errors import ConfigError, DataError, nearest

rdBase.DisableLog("rdApp.*")  # a molecule that does not parse is counted and named by us

Mol = Chem.Mol


LONGEST = 5_000  # characters of a SMILES, atoms of a mol block: RDKit writes chains recursively, and 20,000 atoms end the process


def parse(smiles: str) -> Mol | None:
    """A sanitised molecule without atom map numbers, or None, also for a SMILES of more than ``LONGEST`` characters.

    Cached: oracle, constraints and search read the same molecule. Do not edit it.
    """
    if not smiles or not isinstance(smiles, str) or len(smiles) > LONGEST:  # a table's NaN would end in Boost's TypeError
        return None
    return _parse(smiles)


@lru_cache(maxsize=5_000)
def _parse(smiles: str) -> Mol | None:
    try:
        mol = Chem.MolFromSmiles(smiles)
    except (ValueError, RuntimeError):
        return None
    if mol is not None and ":" in smiles:  # a bond symbol, or atom maps: numbers of a reaction, no part of the molecule
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(0)
    return mol


def canonical(smiles: str) -> str | None:
    """RDKit's canonical SMILES, or None if it cannot be parsed or is empty."""
    mol = parse(smiles)
    return Chem.MolToSmiles(mol) if mol is not None and mol.GetNumAtoms() else None


def without_stereo(smiles: str) -> str:
    """Canonical SMILES without stereo marks; what cannot be parsed comes back as it is."""
    mol = parse(smiles)
    return smiles if mol is None else canonical(Chem.MolToSmiles(mol, isomericSmiles=False)) or smiles


def random_smiles(mol: Mol, rng: np.random.Generator) -> str:
    """A randomized SMILES: the molecule written in a random atom order."""
    order = [int(i) for i in rng.permutation(mol.GetNumAtoms())]
    return Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False)


def from_block(block: str) -> str | None:
    """Canonical SMILES of a mol block (V2000 or V3000, as in an SDF file), or None if RDKit cannot read it."""
    try:
        mol = Chem.MolFromMolBlock(block)
    except (ValueError, RuntimeError):
        return None
    return Chem.MolToSmiles(mol) if mol is not None and 0 < mol.GetNumAtoms() <= LONGEST else None


def smarts(pattern: str, key: str = "SMARTS") -> Mol:
    """A substructure query; a pattern that does not parse is named in full."""
    query = _smarts(pattern)
    if query is None:
        raise ConfigError(f"{key} '{pattern}' is not a SMARTS pattern that RDKit can parse.")
    return query


@lru_cache(maxsize=1_000)
def _smarts(pattern: str) -> Mol | None:
    query = Chem.MolFromSmarts(pattern) if pattern else None
    if query is not None and query.NeedsUpdatePropertyCache():
        query.UpdatePropertyCache(strict=False)
    return query


@dataclass(frozen=True)
class Cleaned:
    """A molecule as the search reads it, and what was changed: ``salt`` (its largest part is left), ``neutralised``."""

    smiles: str
    changes: tuple[str, ...] = ()


def clean(smiles: str, stereo: bool = True) -> Cleaned | None:
    """Largest organic fragment, neutralised, canonical; None if it cannot be parsed or holds no carbon (:func:`why_unusable`).

    stereo: False drops stereo marks (what a search on graphs does to its start molecules).
    """
    mol = parse(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        return None
    changes = []
    pieces = Chem.GetMolFrags(mol, asMols=True)
    if len(pieces) > 1:
        mol = max(pieces, key=lambda p: (_carbons(p) > 0, p.GetNumHeavyAtoms(), Chem.MolToSmiles(p)))
        changes.append("salt")
    if _carbons(mol) == 0:
        return None
    mol, changed = neutralise(mol)
    if changed:
        changes.append("neutralised")
    if not stereo:
        mol = Chem.Mol(mol)
        Chem.RemoveStereochemistry(mol)
    result = canonical(Chem.MolToSmiles(mol))
    return None if result is None else Cleaned(result, tuple(changes))


TRANSITION_METALS = frozenset((*range(21, 31), *range(39, 49), *range(57, 81), *range(89, 113)))
ORGANIC = frozenset((0, 1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53))  # atomic numbers that searches know; 0 is "*"


def why_unusable(mol: Mol) -> str:
    """Why :func:`clean` has no answer for a molecule that can be parsed: ``metal``, ``inorganic`` or ``charged``."""
    if any(atom.GetAtomicNum() in TRANSITION_METALS for atom in mol.GetAtoms()):
        return "metal"
    return "inorganic" if _carbons(mol) == 0 else "charged"


def is_organometallic(mol: Mol) -> bool:
    """Does it hold a metal or another element outside organic chemistry?"""
    return any(atom.GetAtomicNum() not in ORGANIC for atom in mol.GetAtoms())


def attachment_points(mol: Mol) -> int:
    """Number of atoms ``*``."""
    return sum(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms())


def _carbons(mol: Mol) -> int:
    return sum(atom.GetAtomicNum() == 6 for atom in mol.GetAtoms())


@lru_cache(maxsize=1)
def _uncharger() -> Any:
    from rdkit.Chem.MolStandardize import rdMolStandardize

    return rdMolStandardize.Uncharger()


def neutralise(mol: Mol) -> tuple[Mol, bool]:
    """Charges balanced by adding or removing hydrogens, and whether anything changed (nitro groups stay)."""
    if not any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
        return mol, False
    neutral = _uncharger().uncharge(mol)
    return neutral, Chem.MolToSmiles(neutral) != Chem.MolToSmiles(mol)


def is_radical(mol: Mol) -> bool:
    """Has any atom an unpaired electron?"""
    return any(mol.GetAtomWithIdx(i).GetNumRadicalElectrons() for i in range(mol.GetNumAtoms()))


_FORMULA = re.compile(r"([A-Z][a-z]?|\*)(\d*)")


def element_counts(mol: Mol) -> dict[str, int]:
    """Atoms by element, hydrogens counted whether they are written or not: ethanol -> {"C": 2, "H": 6, "O": 1}.

    Attachment points are atoms, too: ``"*"``, as every public counter has it.
    """
    return {element: int(count or 1) for element, count in _FORMULA.findall(rdMolDescriptors.CalcMolFormula(mol))}


def atomic_number(element: str) -> int:
    """Of an element's symbol: ``"Cl"`` -> 17."""
    return int(Chem.GetPeriodicTable().GetAtomicNumber(element))


def largest_ring(mol: Mol) -> int:
    """Atoms in the largest ring, 0 without one."""
    return max((len(ring) for ring in mol.GetRingInfo().AtomRings()), default=0)


# Fingerprints -------------------------------------------------------------------------------------------------------

KINDS = ("ecfp4", "ecfp6", "fcfp4", "fcfp6", "ap")


@lru_cache(maxsize=64)
def generator(kind: str, bits: int = 2048, count_simulation: bool = False) -> Any:
    """RDKit generator: ``ecfp4/6``, ``fcfp4/6`` (Morgan), ``ap`` (atom pairs up to ten bonds, the benchmark's form)."""
    if kind == "ap":
        return rdFingerprintGenerator.GetAtomPairGenerator(maxDistance=10, fpSize=bits, countSimulation=True)
    if kind not in KINDS:
        raise ConfigError(f"There is no fingerprint '{kind}'; {nearest(kind, KINDS)}.")
    features = rdFingerprintGenerator.GetMorganFeatureAtomInvGen() if kind.startswith("fcfp") else None
    return rdFingerprintGenerator.GetMorganGenerator(
        radius=int(kind[-1]) // 2, fpSize=bits, atomInvariantsGenerator=features, countSimulation=count_simulation
    )


def sparse_counts(mol: Mol, kind: str = "ecfp4") -> Any:
    """Unfolded count fingerprint, as the PMO benchmark compares molecules."""
    return generator(kind).GetSparseCountFingerprint(mol)


def bit_fingerprint(mol: Mol, kind: str = "ecfp4", bits: int = 2048) -> Any:
    """Folded bits, as the paired-optimization tasks compare molecules (ECFP4, 2,048 bits)."""
    return generator(kind, bits).GetFingerprint(mol)


def similarity(fingerprint: Any, others: Sequence[Any]) -> np.ndarray:
    """Tanimoto of one RDKit fingerprint to several of the same kind: float [len(others)]."""
    return np.asarray(DataStructs.BulkTanimotoSimilarity(fingerprint, list(others)))


def fingerprint_matrix(
    mols: Sequence[Mol], kind: str = "ecfp4", bits: int = 2048, count_simulation: bool = False
) -> np.ndarray:
    """Folded fingerprints as float32 [N, bits]. ``count_simulation`` spends bits on how often a feature occurs."""
    rows = generator(kind, bits, count_simulation)
    matrix = np.zeros((len(mols), bits), dtype=np.float32)
    for i, mol in enumerate(mols):
        matrix[i] = rows.GetFingerprintAsNumPy(mol)
    return matrix


def tanimoto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """All Tanimoto similarities of bit rows a [N, D] and b [M, D]: [N, M]; 0 where both are empty."""
    shared = a @ b.T
    total = a.sum(1)[:, None] + b.sum(1)[None, :] - shared
    return np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)


def count_tanimoto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same for count rows: sum of minima over sum of maxima, [N, M]."""
    shared = np.stack([np.minimum(row, b).sum(1) for row in a]) if len(a) else np.zeros((0, len(b)))
    total = a.sum(1)[:, None] + b.sum(1)[None, :] - shared
    return np.divide(shared, total, out=np.zeros_like(shared, dtype=float), where=total > 0)


# Scaffolds ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=20_000)
def scaffold(smiles: str) -> str:
    """Bemis–Murcko scaffold as SMILES; the molecule itself where it has no ring, "" where it cannot be parsed."""
    mol = parse(smiles)
    if mol is None:
        return ""
    return Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol)) or smiles


def keeps_scaffold(mol: Mol, locked: Mol) -> bool:
    """Does ``mol`` hold the locked scaffold with growth only where the scaffold has an attachment point ``*``?
    Each ``*`` takes one substituent or none.

    ``locked`` is a query from :func:`locked_scaffold`. A scaffold without ``*`` may grow anywhere.
    """
    if not attachment_points(locked):
        return mol.HasSubstructMatch(locked)
    return next(scaffold_places(mol, locked), None) is not None


def scaffold_places(mol: Mol, locked: Mol) -> Iterator[dict[int, int]]:
    """Where ``mol`` holds the scaffold and grows only at its ``*``: atom of the scaffold -> atom of the molecule."""
    core = [a for a in locked.GetAtoms() if a.GetAtomicNum() != 0]
    for match in mol.GetSubstructMatches(_without_dummies(locked), uniquify=False, maxMatches=200):
        if all(_same_place(mol.GetAtomWithIdx(index), atom) for atom, index in zip(core, match)):
            yield {atom.GetIdx(): index for atom, index in zip(core, match)}


def _same_place(atom: Any, locked: Any) -> bool:
    """The locked atom unchanged: its charge, its neighbours, and at most one substituent for each ``*`` on it."""
    neighbours = [n.GetAtomicNum() for n in locked.GetNeighbors()]
    same = len(neighbours) - neighbours.count(0) <= atom.GetDegree() <= len(neighbours)
    return same and atom.GetFormalCharge() == locked.GetFormalCharge()


def locked_scaffold(text: str, key: str = "scaffold") -> Mol:
    """A scaffold to keep, as SMILES; ``*`` marks where it may grow. Two parts, divided by ``|`` or ``.``, are joined there."""
    mol = Chem.MolFromSmiles(text.replace("|", ".")) if text else None
    if mol is None:
        raise ConfigError(f"{key} '{text}' is not a SMILES that RDKit can parse.")
    return mol


def _without_dummies(mol: Mol) -> Mol:
    edited = Chem.RWMol(mol)
    for atom in sorted((a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() == 0), reverse=True):
        edited.RemoveAtom(atom)
    for atom in edited.GetAtoms():
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    core = edited.GetMol()
    core.UpdatePropertyCache(strict=False)
    return core


# Pictures -----------------------------------------------------------------------------------------------------------


def draw_svg(smiles: str, start: str | None = None, size: tuple[int, int] = (300, 220)) -> str:
    """SVG of one molecule; atoms and bonds that ``start`` does not have are highlighted."""
    from rdkit.Chem.Draw import rdMolDraw2D

    parsed = parse(smiles)
    if parsed is None:
        raise DataError(f"'{smiles}' is not a SMILES that RDKit can parse, so it cannot be drawn.")
    mol = Chem.Mol(parsed)
    atoms, bonds = changed(mol, parse(start)) if start else ([], [])
    drawer = rdMolDraw2D.MolDraw2DSVG(*size)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, mol, highlightAtoms=atoms, highlightBonds=bonds)
    drawer.FinishDrawing()
    return drawer.GetDrawingText()


def changed(mol: Mol, start: Mol | None) -> tuple[list[int], list[int]]:
    """Atoms and bonds of ``mol`` outside its largest common substructure with ``start`` (search capped at 1 s)."""
    from rdkit.Chem import rdFMCS

    if start is None:
        return [], []
    common = rdFMCS.FindMCS([mol, start], ringMatchesRingOnly=True, completeRingsOnly=True, timeout=1)
    match = mol.GetSubstructMatch(Chem.MolFromSmarts(common.smartsString)) if common.numAtoms else ()
    kept = set(match)
    atoms = [a.GetIdx() for a in mol.GetAtoms() if a.GetIdx() not in kept]
    bonds = [b.GetIdx() for b in mol.GetBonds() if not {b.GetBeginAtomIdx(), b.GetEndAtomIdx()} <= kept]
    return atoms, bonds


def draw_grid(smiles: Iterable[str], legends: Iterable[str], columns: int = 5, side: int = 260) -> bytes:
    """PNG of a grid of molecules with a legend under each, drawn without a browser or display."""
    from rdkit.Chem import Draw

    mols = [Chem.Mol(m) for m in map(parse, smiles) if m is not None]
    image = Draw.MolsToGridImage(
        mols, molsPerRow=columns, subImgSize=(side, side), legends=list(legends), returnPNG=True, useSVG=False
    )
    return image if isinstance(image, bytes) else image.data
