"""A parent molecule laid out for fast edits, and the way back from an edited graph to canonical SMILES."""

from __future__ import annotations

from functools import cached_property, lru_cache
from random import Random

from rdkit import Chem

from molecules.chemistry import Mol, is_radical

SINGLE, DOUBLE, TRIPLE = Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE
ORDER = {1: SINGLE, 2: DOUBLE, 3: TRIPLE}


class Graph:
    """Kekulised molecule without stereo marks, its neighbour lists and the hydrogens that edits may replace.

    Edits are made on kekulised graphs because every bond then has a whole order and valences can be counted by hand.
    """

    def __init__(self, mol: Mol) -> None:
        mol = Chem.Mol(mol)
        Chem.RemoveStereochemistry(mol)
        self.size = mol.GetNumAtoms()
        atoms = [mol.GetAtomWithIdx(i) for i in range(self.size)]  # iterating over GetAtoms() is far slower
        self.hydrogens = [atom.GetTotalNumHs() for atom in atoms]
        self.aromatic = [atom.GetIsAromatic() for atom in atoms]
        self.elements = [atom.GetAtomicNum() for atom in atoms]
        self.charges = [atom.GetFormalCharge() for atom in atoms]
        Chem.Kekulize(mol, clearAromaticFlags=True)
        for atom, charge in zip(atoms, self.charges):
            if not charge:  # hydrogens follow from the valence, also after an edit
                atom.SetNoImplicit(False)
                atom.SetNumExplicitHs(0)
        self.mol = mol
        bonds = [mol.GetBondWithIdx(i) for i in range(mol.GetNumBonds())]
        self.bonds: list[tuple[int, int, int, bool]] = [
            (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), int(b.GetBondTypeAsDouble()), b.IsInRing()) for b in bonds
        ]
        self.neighbours: list[dict[int, int]] = [{} for _ in range(self.size)]
        for i, j, order, _ in self.bonds:
            self.neighbours[i][j] = self.neighbours[j][i] = order
        self.rings = [list(ring) for ring in mol.GetRingInfo().AtomRings()]

    @cached_property
    def in_ring(self) -> set[int]:
        """Atoms that are part of a ring."""
        return {atom for ring in self.rings for atom in ring}

    @cached_property
    def cuts(self) -> list[tuple[int, int]]:
        """Single bonds outside rings, both ways round: (kept side's atom, other side's atom)."""
        both = [(i, j) for i, j, order, ring in self.bonds if order == 1 and not ring]
        return both + [(j, i) for i, j in both]

    @cached_property
    def open_atoms(self) -> list[int]:
        """Atoms with a hydrogen that a new bond can replace."""
        return [i for i in range(self.size) if self.hydrogens[i] > 0]

    def side(self, start: int, without: set[tuple[int, int]]) -> set[int]:
        """Atoms reachable from ``start`` without crossing these bonds (given both ways round)."""
        seen, stack = {start}, [start]
        while stack:
            at = stack.pop()
            for near in self.neighbours[at]:
                if near not in seen and (at, near) not in without:
                    seen.add(near)
                    stack.append(near)
        return seen

    def distances(self, start: int) -> dict[int, int]:
        """Bonds between ``start`` and every atom."""
        found, layer = {start: 0}, [start]
        while layer:
            layer = [n for at in layer for n in self.neighbours[at] if found.setdefault(n, found[at] + 1) > found[at]]
        return found

    def pick_cut(self, random: Random) -> tuple[int, int] | None:
        """One of :attr:`cuts`, or None without any."""
        return random.choice(self.cuts) if self.cuts else None

    def ring_cut(self, random: Random) -> tuple[set[int], int, int, int, int] | None:
        """Two bonds of one ring whose removal splits the molecule.

        Returns the kept side's atoms, its two open atoms, and the orders of the bonds that were cut there.
        """
        if not self.rings:
            return None
        ring = random.choice(self.rings)
        first, second = random.sample(range(len(ring)), 2)
        ends = [(ring[k], ring[(k + 1) % len(ring)]) for k in (first, second)]
        without = {e for i, j in ends for e in ((i, j), (j, i))}
        kept = self.side(ends[0][1], without)
        if ends[0][0] in kept or ends[1][0] not in kept:
            return None
        open_a, open_b = ends[0][1], ends[1][0]
        orders = [self.neighbours[i][j] for i, j in ends]
        if random.random() < 0.5:  # the other half
            kept = set(range(self.size)) - kept
            open_a, open_b = ends[0][0], ends[1][1]
        return kept, open_a, open_b, orders[0], orders[1]


@lru_cache(maxsize=4_000)
def graph(smiles: str) -> Graph | None:
    """The graph of a canonical SMILES; None if it cannot be kekulised."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        return None
    try:
        return Graph(mol)
    except (ValueError, RuntimeError):
        return None


def finish(edited: Chem.RWMol, max_atoms: int, max_rings: int) -> tuple[str, Mol] | None:
    """Canonical SMILES and sanitised molecule of an edited graph; None if it is no valid single molecule."""
    if not 2 <= edited.GetNumAtoms() <= max_atoms:
        return None
    if edited.GetNumBonds() - edited.GetNumAtoms() + 1 > max_rings:
        return None
    if Chem.SanitizeMol(edited, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    smiles = Chem.MolToSmiles(edited)
    if "." in smiles or (("[" in smiles) and is_radical(edited)):
        return None
    return smiles, edited
