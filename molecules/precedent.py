"""How often ring systems and atom environments have been seen in molecules that were made.

A *ring system* is all rings that share an atom, with the atoms on double bonds out of them, without substituents and
stereo marks (the idea of P. Walters' ring-system lookup in ``useful-rdkit-utils``). An *environment* is an atom with its
neighbours: a Morgan feature of radius 0 or 1. ``precedent.tsv`` counts both in ZINC-250k molecules;
``benchmarks/precedent_table.py`` writes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from molecules import chemistry
from molecules.chemistry import Mol

FILE = Path(__file__).with_name("precedent.tsv")
RARE = 10  # seen in fewer of the table's molecules: unusual. About 4% of unknown ZINC molecules hold such a ring system
LEAST = 2  # what was seen once is not in the table


class Unusual(NamedTuple):
    """Part of a molecule that was seen in ``seen`` of ``of`` molecules. kind: ``ring system`` or ``environment``."""

    kind: str
    smiles: str
    seen: int
    of: int

    def __str__(self) -> str:
        often = "never seen" if self.seen < LEAST else f"seen in {self.seen} of {self.of:,}"
        return f"{self.kind} {self.smiles} {often}"


@dataclass(frozen=True)
class PrecedentTable:
    """Counts of ring systems by name and of environments by their Morgan identifier, in so many ``molecules``."""

    molecules: int
    rings: dict[str, int]
    environments: dict[int, int]


@lru_cache(maxsize=1)
def table() -> PrecedentTable:
    """The table that ships with this package."""
    lines = FILE.read_text().splitlines()
    rings: dict[str, int] = {}
    environments: dict[int, int] = {}
    for line in lines[1:]:
        kind, key, count = line.split("\t")
        if kind == "ring":
            rings[key] = int(count)
        else:
            environments[int(key, 36)] = int(count)
    return PrecedentTable(int(lines[0].split("\t")[1]), rings, environments)


def ring_systems(mol: Mol) -> list[list[int]]:
    """Atoms of each ring system, with the atoms on double bonds out of it."""
    found: list[set[int]] = []
    for ring in mol.GetRingInfo().AtomRings():
        system, apart = set(ring), []
        for other in found:
            if system.isdisjoint(other):
                apart.append(other)
            else:
                system |= other
        found = [*apart, system]
    return [sorted(system | _exocyclic(mol, system)) for system in found]


def _exocyclic(mol: Mol, system: set[int]) -> set[int]:
    outside = set()
    for index in system:
        atom = mol.GetAtomWithIdx(index)
        if atom.GetDegree() > 2:
            for bond in atom.GetBonds():
                if bond.GetBondType() == Chem.BondType.DOUBLE and not bond.IsInRing():
                    outside.add(bond.GetOtherAtomIdx(index))
    return outside


def _symbols(mol: Mol, atoms: Iterable[int]) -> list[str]:
    """How each atom is written in a name: its element, aromatic or not, and its charge; hydrogens do not count."""
    symbols = [""] * mol.GetNumAtoms()
    for index in atoms:
        atom = mol.GetAtomWithIdx(index)
        text, charge = atom.GetSymbol(), atom.GetFormalCharge()
        text = text.lower() if atom.GetIsAromatic() else text
        symbols[index] = f"[{text}{'+' if charge > 0 else '-'}]" if charge else text
    return symbols


def ring_name(mol: Mol, atoms: list[int]) -> str:
    """The ring system as a canonical text; tautomers and N-substituted forms of an aromatic ring have the same one."""
    return Chem.MolFragmentToSmiles(mol, atoms, atomSymbols=_symbols(mol, atoms), isomericSmiles=False)


_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=1)


def _neutral(mol: Mol) -> Mol:
    """Neutralised where that leaves a molecule (hexafluorophosphate takes no proton)."""
    neutral, changed = chemistry.neutralise(mol)
    valid = not changed or Chem.SanitizeMol(neutral, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    return neutral if valid else mol


def _environments(mol: Mol) -> list[int]:
    """Morgan identifiers of its atoms alone and with their neighbours, unsigned."""
    return [key & 0xFFFFFFFF for key in _MORGAN.GetSparseFingerprint(mol).GetOnBits()]


def unusual(mol: Mol, rings: int = RARE, environments: int = RARE) -> list[Unusual]:
    """Ring systems seen in fewer than ``rings`` molecules and environments in fewer than ``environments``.

    The rarest first. Charges are balanced first, as in the table. An environment inside another unusual one, or of an
    unusual ring system alone, is still listed.
    """
    known, mol = table(), _neutral(mol)
    found = []
    for atoms in ring_systems(mol) if rings > 0 else ():
        name = ring_name(mol, atoms)
        if (count := known.rings.get(name, 0)) < rings:
            found.append(Unusual("ring system", name, count, known.molecules))
    if environments > 0:
        rare = {key: n for key in _environments(mol) if (n := known.environments.get(key, 0)) < environments}
        found += [Unusual("environment", text, rare[key], known.molecules) for key, text in _texts(mol, rare).items()]
    return sorted(set(found), key=lambda item: (item.seen, item.kind != "ring system", item.smiles))


def _texts(mol: Mol, keys: dict[int, int]) -> dict[int, str]:
    """Each of these environments as text, the central atom first."""
    if not keys:
        return {}
    extra = rdFingerprintGenerator.AdditionalOutput()
    extra.AllocateBitInfoMap()
    _MORGAN.GetSparseFingerprint(mol, additionalOutput=extra)
    places = extra.GetBitInfoMap()
    return {key: _environment(mol, *places[key][0]) for key in keys}


def _environment(mol: Mol, centre: int, radius: int) -> str:
    atoms = {centre}
    if radius:
        atoms |= {n.GetIdx() for n in mol.GetAtomWithIdx(centre).GetNeighbors()}
    symbols = [_with_hydrogens(mol.GetAtomWithIdx(i)) if i in atoms else "" for i in range(mol.GetNumAtoms())]
    root = centre if len(Chem.GetMolFrags(mol)) == 1 else -1  # RDKit roots no salt
    return Chem.MolFragmentToSmiles(mol, sorted(atoms), atomSymbols=symbols, rootedAtAtom=root, isomericSmiles=False)


def _with_hydrogens(atom: Chem.Atom) -> str:
    text = atom.GetSymbol().lower() if atom.GetIsAromatic() else atom.GetSymbol()
    hydrogens, charge = atom.GetTotalNumHs(), atom.GetFormalCharge()
    text += "" if not hydrogens else "H" if hydrogens == 1 else f"H{hydrogens}"
    text += "" if not charge else "+" if charge > 0 else "-"
    return f"[{text}]" if hydrogens or charge else text


def count(smiles: Iterable[str]) -> PrecedentTable:
    """Count the ring systems and environments of molecules, neutralised; what was seen once is left out."""
    rings: Counter[str] = Counter()
    environments: Counter[int] = Counter()
    molecules = 0
    for text in smiles:
        parsed = chemistry.parse(text)
        if parsed is not None:
            mol = _neutral(parsed)
            molecules += 1
            rings.update({ring_name(mol, atoms) for atoms in ring_systems(mol)})
            environments.update(_environments(mol))
    often = {name: n for name, n in rings.items() if n >= LEAST}
    return PrecedentTable(molecules, often, {key: n for key, n in environments.items() if n >= LEAST})


def write(made: PrecedentTable, path: Path) -> None:
    """Most frequent first; identifiers in base 36."""
    lines = [f"# molecules\t{made.molecules}"]
    lines += [f"ring\t{k}\t{n}" for k, n in sorted(made.rings.items(), key=lambda kn: (-kn[1], kn[0]))]
    pairs = sorted(made.environments.items(), key=lambda kn: (-kn[1], kn[0]))
    lines += [f"environment\t{_base36(k)}\t{n}" for k, n in pairs]
    path.write_text("\n".join(lines) + "\n")


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits or "0"
