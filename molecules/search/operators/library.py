"""Common pieces of drug-like molecules: substituents with one open end and ring systems with several.

``fragments.tsv`` was counted on a random sample of ZINC-250k by ``python -m molecules.search.operators.library FILE.smi``; no
score of any kind went into it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from random import Random

from rdkit import Chem

from molecules import chemistry
from molecules.search.operators.graph import Graph

FILE = Path(__file__).with_name("fragments.tsv")
LARGEST_FRAGMENT = 13  # heavy atoms
SUBSTITUENTS, CORES = 2_000, 1_500  # how many of each are kept
STARTING = (6, 3, 1)  # how often an assembled molecule starts from a ring system with 2, 3, 4 open ends
GROWING = (4, 5, 1)  # how often it grows by a piece with 1, 2, 3 open ends
ASSEMBLED = 15  # an assembled molecule takes up no further ring systems from this many heavy atoms on
FLATTEN = 0.5  # drawn with probability ~ count ** FLATTEN


class Piece:
    """A library entry: its graph without the open ends, and the atoms that carried them (a lone one is atom 0)."""

    def __init__(self, smiles: str) -> None:
        mol = Chem.MolFromSmiles(smiles)
        dummies = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() == 0]
        ends = [mol.GetAtomWithIdx(d).GetNeighbors()[0].GetIdx() for d in dummies]
        inside = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() != 0]
        order = list(dict.fromkeys([*ends, *inside]))
        kekulised = Chem.Mol(mol)
        Chem.Kekulize(kekulised, clearAromaticFlags=True)
        renumbered = Chem.RWMol(Chem.RenumberAtoms(kekulised, order + dummies))
        for d in range(len(order) + len(dummies) - 1, len(order) - 1, -1):
            renumbered.RemoveAtom(d)
        for atom in renumbered.GetAtoms():
            if not atom.GetFormalCharge():
                atom.SetNoImplicit(False)
                atom.SetNumExplicitHs(0)
        Chem.SanitizeMol(renumbered, Chem.SANITIZE_ALL ^ Chem.SANITIZE_SETAROMATICITY ^ Chem.SANITIZE_KEKULIZE)
        self.graph = Graph(renumbered.GetMol())
        self.ends = [order.index(e) for e in ends]


class Library:
    """Weighted draws of substituents (one open end) and ring systems (2, 3, … open ends)."""

    def __init__(self, entries: Iterable[tuple[str, int]]) -> None:
        self._smiles: dict[int, list[str]] = {}
        counts: dict[int, list[int]] = {}
        for smiles, count in entries:
            ends = smiles.count("*")
            self._smiles.setdefault(ends, []).append(smiles)
            counts.setdefault(ends, []).append(count)
        # cumulative: random.choices then needs no sum
        self._weights = {ends: list(accumulate(n**FLATTEN for n in column)) for ends, column in counts.items()}
        self._counts = {ends: list(accumulate(column)) for ends, column in counts.items()}

    def __len__(self) -> int:
        return sum(map(len, self._smiles.values()))

    def draw(self, ends: int, random: Random, typical: bool = False) -> Piece | None:
        """A random piece with this many open ends; None if the library has none. typical: as often as it was counted."""
        text = self.text(ends, random, typical)
        return None if text is None else _piece(text)

    def text(self, ends: int, random: Random, typical: bool = False) -> str | None:
        """The same as SMILES with a ``*`` at each open end."""
        if ends not in self._smiles:
            return None
        weights = self._counts if typical else self._weights
        return random.choices(self._smiles[ends], cum_weights=weights[ends])[0]

    def assemble(self, random: Random) -> Chem.RWMol | None:
        """A new molecule, typical for those that the library was counted on: ring systems joined, open ends filled."""
        first = self.draw(random.choices([2, 3, 4], STARTING)[0], random, typical=True)
        if first is None:
            return None
        made, ends = Chem.RWMol(first.graph.mol), list(first.ends)
        while ends:
            at = ends.pop(random.randrange(len(ends)))
            growing = made.GetNumAtoms() < ASSEMBLED
            piece = self.draw(random.choices([1, 2, 3], GROWING)[0] if growing else 1, random, typical=True)
            if piece is None:
                return None
            size, free = made.GetNumAtoms(), list(piece.ends)
            made = Chem.RWMol(Chem.CombineMols(made, piece.graph.mol))
            made.AddBond(at, size + free.pop(random.randrange(len(free))), Chem.BondType.SINGLE)
            ends += [size + end for end in free]
        return made


@lru_cache(maxsize=8_000)
def _piece(smiles: str) -> Piece | None:
    try:
        return Piece(smiles)
    except (ValueError, RuntimeError):
        return None


@lru_cache(maxsize=1)
def default_library() -> Library:
    """The library of fragments that the package contains."""
    rows = (line.split("\t") for line in FILE.read_text().splitlines() if not line.startswith("#"))
    return Library((smiles, int(count)) for smiles, count in rows)


def pieces(mol: chemistry.Mol) -> set[str]:
    """Substituents and ring systems of one molecule, with ``*`` at their open ends."""
    found: set[str] = set()
    single = [b.GetIdx() for b in mol.GetBonds() if b.GetBondType() == Chem.BondType.SINGLE and not b.IsInRing()]
    for bond in single:
        for part in Chem.GetMolFrags(Chem.FragmentOnBonds(mol, [bond], dummyLabels=[(0, 0)]), asMols=True):
            if part.GetNumHeavyAtoms() <= LARGEST_FRAGMENT:
                found.add(Chem.MolToSmiles(part))
    ring_bonds = [i for i in single if any(_ring(mol, i))]
    if ring_bonds:
        labels = [(0, 0)] * len(ring_bonds)
        for part in Chem.GetMolFrags(Chem.FragmentOnBonds(mol, ring_bonds, dummyLabels=labels), asMols=True):
            smiles = Chem.MolToSmiles(part)
            if part.GetRingInfo().NumRings() and smiles.count("*") in (2, 3, 4) and part.GetNumHeavyAtoms() <= 20:
                found.add(smiles)
    return found


def _ring(mol: chemistry.Mol, bond: int) -> tuple[bool, bool]:
    b = mol.GetBondWithIdx(bond)
    return b.GetBeginAtom().IsInRing(), b.GetEndAtom().IsInRing()


def count_pieces(smiles: Iterable[str]) -> list[tuple[str, int]]:
    """The most frequent substituents and ring systems of neutralised molecules without stereo marks, with their counts."""
    counts: Counter[str] = Counter()
    for text in smiles:
        cleaned = chemistry.clean(text, stereo=False)
        mol = chemistry.parse(cleaned.smiles) if cleaned else None
        if mol is not None:
            counts.update(pieces(mol))
    ordered = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))
    ordered = [(s, n) for s, n in ordered if n > 1 and Chem.MolFromSmiles(s) is not None]
    one = [(s, n) for s, n in ordered if s.count("*") == 1][:SUBSTITUENTS]
    many = [(s, n) for s, n in ordered if s.count("*") > 1][:CORES]
    return one + many


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().split()
    sample = Random(0).sample(lines, min(len(lines), 30_000))
    rows = count_pieces(sample)
    FILE.write_text("# piece\tcount\n" + "".join(f"{s}\t{n}\n" for s, n in rows))
    print(f"{len(rows)} pieces from {len(sample)} molecules")
