"""Stereo marks through edits that know only the graph: a child inherits what an edit did not touch.

Edits work on flat graphs. Here the atoms of the parent carry numbers, the child's atoms are found again by them, and a
centre with the same neighbours (at most one exchanged) gets its configuration back; likewise E and Z of a double bond.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random

from rdkit import Chem

from molecules.chemistry import Mol
from molecules.search.operators.graph import Graph

CHOICES = ("drop", "keep", "vary")
FLIPPED = 0.25  # share of children under ``vary`` that are the parent with one configuration changed
CENTRES = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
MARKS = "@/\\"


def has_marks(smiles: str) -> bool:
    """Does the SMILES carry a stereo mark?"""
    return any(mark in smiles for mark in MARKS)


@lru_cache(maxsize=2_000)
def numbered(smiles: str) -> Graph | None:
    """The flat graph of a molecule whose atoms carry their numbers, from 1, as atom maps."""
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        return None
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    try:
        return Graph(mol)
    except (ValueError, RuntimeError):
        return None


def take_numbers(edited: Chem.RWMol) -> list[int]:
    """The numbers of an edited graph's atoms, which lose them; 0 for a new atom."""
    numbers = []
    for atom in edited.GetAtoms():
        numbers.append(atom.GetAtomMapNum())
        atom.SetAtomMapNum(0)
    return numbers


def inherit(child: Mol, numbers: list[int], parent: Mol) -> Mol:
    """The flat ``child`` with the stereo marks of ``parent`` that the edit left alone. Read it again from SMILES: a mark that
    has lost its meaning goes then."""
    child = Chem.Mol(child)
    place = {number - 1: index for index, number in enumerate(numbers) if number}
    for atom in parent.GetAtoms():
        if atom.GetChiralTag() in CENTRES and atom.GetIdx() in place:
            _centre(child.GetAtomWithIdx(place[atom.GetIdx()]), atom, numbers)
    for bond in parent.GetBonds():
        if bond.GetStereo() > Chem.BondStereo.STEREOANY and bond.GetBeginAtomIdx() in place and bond.GetEndAtomIdx() in place:
            _double_bond(child, bond, place)
    Chem.SetDoubleBondNeighborDirections(child)
    return child


def _centre(atom: Chem.Atom, before: Chem.Atom, numbers: list[int]) -> None:
    if atom.GetDegree() != before.GetDegree() or atom.GetTotalNumHs() != before.GetTotalNumHs():
        return
    old = [bond.GetOtherAtomIdx(before.GetIdx()) for bond in before.GetBonds()]
    new = [numbers[bond.GetOtherAtomIdx(atom.GetIdx())] - 1 for bond in atom.GetBonds()]
    missing, strangers = [n for n in old if n not in new], [n for n in new if n not in old]
    if len(missing) > 1 or len(missing) != len(strangers):
        return
    order = [old.index(n) if n in old else old.index(missing[0]) for n in new]
    swaps = sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))
    atom.SetChiralTag(before.GetChiralTag())
    if swaps % 2:
        atom.InvertChirality()


def _double_bond(child: Mol, before: Chem.Bond, place: dict[int, int]) -> None:
    ends = place[before.GetBeginAtomIdx()], place[before.GetEndAtomIdx()]
    bond = child.GetBondBetweenAtoms(*ends)
    beside = [place[atom] for atom in before.GetStereoAtoms() if atom in place]
    if bond is None or bond.GetBondType() != Chem.BondType.DOUBLE or len(beside) != 2:
        return
    if bond.GetBeginAtomIdx() != ends[0]:
        beside.reverse()
    joined = zip((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()), beside)
    if all(child.GetBondBetweenAtoms(end, near) is not None for end, near in joined):
        bond.SetStereoAtoms(*beside)
        cis = before.GetStereo() in (Chem.BondStereo.STEREOZ, Chem.BondStereo.STEREOCIS)
        bond.SetStereo(Chem.BondStereo.STEREOCIS if cis else Chem.BondStereo.STEREOTRANS)  # of the same two atoms


def vary(mol: Mol, random: Random, flip: bool) -> Mol:
    """Centres and double bonds without a mark get one at random; with ``flip`` one that has a mark is turned round."""
    mol = Chem.Mol(mol)
    found = list(Chem.FindPotentialStereo(mol))
    if not found:
        return mol
    marked = [info for info in found if info.specified == Chem.StereoSpecified.Specified]
    chosen = random.choice(marked or found) if flip else None
    for info in found:
        turn = chosen is not None and info.centeredOn == chosen.centeredOn and info.type == chosen.type
        if info.type == Chem.StereoType.Atom_Tetrahedral:
            atom = mol.GetAtomWithIdx(info.centeredOn)
            if turn and atom.GetChiralTag() in CENTRES:
                atom.InvertChirality()
            elif atom.GetChiralTag() not in CENTRES:
                atom.SetChiralTag(random.choice(CENTRES))
        elif info.type == Chem.StereoType.Bond_Double:
            _turn_bond(mol.GetBondWithIdx(info.centeredOn), turn, random)
    Chem.SetDoubleBondNeighborDirections(mol)
    return mol


def _turn_bond(bond: Chem.Bond, turn: bool, random: Random) -> None:
    cis_or_trans = (Chem.BondStereo.STEREOCIS, Chem.BondStereo.STEREOTRANS)
    if bond.GetStereo() > Chem.BondStereo.STEREOANY:
        if turn:
            is_cis = bond.GetStereo() in (Chem.BondStereo.STEREOZ, Chem.BondStereo.STEREOCIS)
            bond.SetStereo(cis_or_trans[int(is_cis)])
        return
    begin, end = (
        [n.GetIdx() for n in atom.GetNeighbors() if n.GetIdx() != bond.GetOtherAtomIdx(atom.GetIdx())]
        for atom in (bond.GetBeginAtom(), bond.GetEndAtom())
    )
    if begin and end:
        bond.SetStereoAtoms(begin[0], end[0])
        bond.SetStereo(random.choice(cis_or_trans))
