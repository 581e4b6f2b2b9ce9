"""Rings that cannot exist: what a valence model accepts and geometry does not.

Every rule has a limit from experiment. A molecule beyond it has never been kept at room temperature; what is merely
strained or rare (a cyclooctyne, a [6]metacyclophane) is left to :mod:`molecules.precedent`.
"""

from __future__ import annotations

from itertools import combinations

from rdkit import Chem

from molecules import chemistry
from molecules.chemistry import Mol

BRIDGED = 8  # atoms of a ring that runs through an aromatic ring's meta or para atoms, and cannot be closed
AROMATIC = 8  # atoms of a ring that is flat by aromaticity alone; the macrocycle of a porphyrin is not meant
BREDT = 7  # atoms of the larger ring around a bridgehead double bond (the trans double bond) up to which there is none
CAGED = 24  # pairs of small rings that share three atoms or more: twice as many as diamantane has; drugs have up to six
STRAIGHT = 7  # atoms of a ring that cannot hold a triple bond; with two cumulated double bonds one more

SMALL_RINGS = {
    "triple bond in a small ring": "[r3,r4,r5,r6,r7]#[r3,r4,r5,r6,r7]",
    "cyclobutadiene": "[r4;!a]1=[r4;!a]-[r4;!a]=[r4;!a]-1",
    "antiaromatic three-membered ring": "[r3]1=[r3]-[#7v3,#8,#16v2]1",
}


def impossible_rings(mol: Mol) -> list[str]:
    """What about the rings of a molecule cannot exist, in words."""
    found = [reason for reason, pattern in SMALL_RINGS.items() if mol.HasSubstructMatch(chemistry.smarts(pattern, reason))]
    rings = [tuple(ring) for ring in mol.GetRingInfo().AtomRings()]
    if _cumulated(mol, rings):
        found.append("cumulated double bonds in a small ring")
    if any(_bridged(mol, ring) for ring in rings if _aromatic(mol, ring)):
        found.append("aromatic ring bridged across meta or para positions")
    if _anti_bredt(mol, rings):
        found.append("anti-Bredt double bond")
    if _inverted(mol, rings):
        found.append("atom shared by too many small rings")
    small = [set(ring) for ring in rings if len(ring) <= BRIDGED]
    if len(small) > 4 and sum(len(one & two) >= 3 for one, two in combinations(small, 2)) > CAGED:
        found.append("cage of too many bridged rings")
    return found


def _cumulated(mol: Mol, rings: list[tuple[int, ...]]) -> bool:
    """An atom with two double bonds inside one small ring (a cyclic allene; an aryne is written as one, too)."""
    for ring in rings:
        if len(ring) <= STRAIGHT + 1:
            for before, at, after in zip(ring[-1:] + ring[:-1], ring, ring[1:] + ring[:1]):
                atom = mol.GetAtomWithIdx(at)
                bonds = [mol.GetBondBetweenAtoms(at, other).GetBondType() for other in (before, after)]
                if atom.GetAtomicNum() in (6, 7) and bonds == [Chem.BondType.DOUBLE] * 2:
                    return True
    return False


def _aromatic(mol: Mol, ring: tuple[int, ...]) -> bool:
    return len(ring) <= AROMATIC and all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)


def _bridged(mol: Mol, ring: tuple[int, ...]) -> bool:
    """Do two atoms of the ring that are not bonded share another ring of at most ``BRIDGED`` atoms without a chord?

    The bridge leaves the ring at one atom, touches it nowhere in between and returns at the other.
    """
    inside = set(ring)
    touching: dict[int, list[int]] = {}  # atoms next to the ring, by ring bonds, and their places in it
    for place, index in enumerate(ring):
        atom = mol.GetAtomWithIdx(index)
        for bond in atom.GetBonds() if atom.GetDegree() > 2 else ():
            other = bond.GetOtherAtomIdx(index)
            metal = mol.GetAtomWithIdx(other).GetAtomicNum() in chemistry.TRANSITION_METALS
            if other not in inside and bond.IsInRing() and not metal:
                touching.setdefault(other, []).append(place)
    for first, places in touching.items():
        for last, length in _reached(mol, first, inside, touching).items():
            for a in places:
                for b in touching[last]:
                    apart = min((a - b) % len(ring), (b - a) % len(ring))
                    if apart > 1 and length + apart + 1 <= BRIDGED:
                        return True
    return False


def _reached(mol: Mol, first: int, inside: set[int], touching: dict[int, list[int]]) -> dict[int, int]:
    """Atoms next to the ring that a path from ``first`` reaches, with the number of its atoms."""
    found, layer, seen = {first: 1}, [first], {first}
    for atoms in range(2, BRIDGED - 2):
        following = []
        for at in layer:
            for near in mol.GetAtomWithIdx(at).GetNeighbors():
                index = near.GetIdx()
                if index not in seen and index not in inside:
                    seen.add(index)
                    if index in touching:
                        found[index] = atoms
                    else:
                        following.append(index)
        layer = following
    return found


def _anti_bredt(mol: Mol, rings: list[tuple[int, ...]]) -> bool:
    """A double bond, alone or of an aromatic ring, at a bridgehead whose rings are too small for it (Bredt's rule).

    Two rings that share three atoms or more are the bicycle; of the two rings around the double bond the larger one
    holds it in the trans form.
    """
    for one, two in combinations(rings, 2):
        shared = set(one) & set(two)
        if len(shared) < 3:
            continue
        third = len(one) + len(two) - 2 * len(shared) + 2
        for index in shared:
            atom = mol.GetAtomWithIdx(index)
            near = {n.GetIdx() for n in atom.GetNeighbors()}
            if not (near & (set(one) - shared) and near & (set(two) - shared)):
                continue  # not a bridgehead
            for bond in atom.GetBonds():
                other = bond.GetOtherAtomIdx(index)
                if bond.GetBondType() != Chem.BondType.DOUBLE:
                    continue
                if other in shared and max(len(one), len(two)) <= BREDT:
                    return True
                for ring in (one, two):
                    if other in set(ring) - shared and max(len(ring), third) <= BREDT:
                        return True
    return False


def _inverted(mol: Mol, rings: list[tuple[int, ...]]) -> bool:
    """Three three-membered rings at one atom; or an unsaturated atom in two rings of three or four atoms."""
    for index in {i for ring in rings if len(ring) <= 4 for i in ring}:
        sizes = [len(ring) for ring in rings if len(ring) <= 4 and index in ring]
        unsaturated = any(b.GetBondType() == Chem.BondType.DOUBLE for b in mol.GetAtomWithIdx(index).GetBonds())
        if sizes.count(3) >= 3 or (len(sizes) >= 2 and unsaturated):
            return True
    return False
