"""A molecule taken apart at the attachment points of a scaffold, and put together again.

Attachment point k of the scaffold (``*``, counted in the order of its SMILES) is written ``[k*]`` in an R-group: methyl at
the second is ``[2*]C``, nothing there ``[2*][H]``. A piece that closes a ring over two points, or links two parts of the
scaffold, carries both marks and is the R-group of both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rdkit import Chem

from molecules import chemistry
from molecules.chemistry import Mol

HYDROGEN = "[H]"
_BOND = re.compile(r"\[(\d+)\*\]\[(\d+)\*\]")


def points(scaffold: Mol) -> list[int]:
    """Atoms ``*`` of a scaffold, in order."""
    return [atom.GetIdx() for atom in scaffold.GetAtoms() if atom.GetAtomicNum() == 0]


def r_groups(mol: Mol, scaffold: Mol) -> list[str] | None:
    """The R-group at each attachment point; None where the molecule does not keep the scaffold. Two points joined
    by a bond alone are ``[1*][2*]``. Of the ways to lay a symmetric scaffold the first in alphabetical order counts.
    """
    way = _way(mol, scaffold)
    return None if way is None else way[0]


def core(mol: Mol, scaffold: Mol) -> Mol | None:
    """What :func:`r_groups` leaves of the molecule: the scaffold with its attachment points, and with the stereo marks that
    it has there."""
    way = _way(mol, scaffold)
    if way is None:
        return None
    groups, place = way
    whole = Chem.RWMol(mol)
    for number, dummy in enumerate(points(scaffold), 1):
        if groups[number - 1].endswith(HYDROGEN):
            at = whole.GetAtomWithIdx(place[_neighbour(scaffold, dummy)])
            at.SetNumExplicitHs(max(at.GetNumExplicitHs() - 1, 0))
            new = whole.AddAtom(Chem.Atom(0))
            whole.GetAtomWithIdx(new).SetIsotope(number)
            whole.AddBond(at.GetIdx(), new, Chem.BondType.SINGLE)
    return _inside(whole, scaffold, place)


def _inside(whole: Chem.RWMol, scaffold: Mol, place: dict[int, int]) -> Mol | None:
    """The atoms of the scaffold alone; every bond out of it ends in the mark of its attachment point."""
    inside = set(place.values())
    left = {number: place[_neighbour(scaffold, dummy)] for number, dummy in enumerate(points(scaffold), 1)}
    marked = {a.GetIdx(): a.GetIsotope() for a in whole.GetAtoms() if a.GetAtomicNum() == 0}
    left = {number: at for number, at in left.items() if number not in marked.values()}
    cuts, labels = [], []
    for bond in whole.GetBonds():
        held = [end for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) if end in inside]
        if len(held) != 1 or bond.GetOtherAtomIdx(held[0]) in marked:
            continue
        number = next(number for number, at in left.items() if at == held[0])
        del left[number]
        cuts.append(bond.GetIdx())
        labels.append((number, number))
    apart = Chem.FragmentOnBonds(whole, cuts, dummyLabels=labels) if cuts else whole.GetMol()
    kept = [piece for atoms, piece in zip(Chem.GetMolFrags(apart), Chem.GetMolFrags(apart, asMols=True)) if inside & set(atoms)]
    return None if left else Chem.MolFromSmiles(".".join(map(Chem.MolToSmiles, kept)))


def _way(mol: Mol, scaffold: Mol) -> tuple[list[str], dict[int, int]] | None:
    places = chemistry.scaffold_places(mol, scaffold)
    ways = [(groups, place) for place in places if (groups := _taken_apart(mol, scaffold, place))]
    return min(ways, key=lambda way: way[0], default=None)


def _taken_apart(mol: Mol, scaffold: Mol, place: dict[int, int]) -> list[str] | None:
    inside, free = set(place.values()), points(scaffold)
    found: dict[int, str] = {}
    cuts: dict[int, int] = {}  # bond -> attachment point
    left = list(enumerate(free, 1))
    for bond in mol.GetBonds():
        ends = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        held = [end for end in ends if end in inside]
        if not held or (len(held) == 2 and _in_scaffold(scaffold, place, ends)):
            continue
        taken: list[int] = []
        for end in held:
            number = next((n for n, dummy in left if place[_neighbour(scaffold, dummy)] == end), None)
            if number is None:
                return None
            left = [pair for pair in left if pair[0] != number]
            taken.append(number)
        if len(taken) == 2:
            found |= dict.fromkeys(taken, _bond(*sorted(taken)))
        else:
            cuts[bond.GetIdx()] = taken[0]
    found |= {number: f"[{number}*]{HYDROGEN}" for number, _ in left}
    if cuts:
        labels = [(number, number) for number in cuts.values()]
        apart = Chem.FragmentOnBonds(mol, list(cuts), dummyLabels=labels)
        for atoms, piece in zip(Chem.GetMolFrags(apart), Chem.GetMolFrags(apart, asMols=True)):
            if inside.isdisjoint(atoms):
                text = Chem.MolToSmiles(piece)
                found |= {a.GetIsotope(): text for a in piece.GetAtoms() if a.GetAtomicNum() == 0 and a.GetIsotope()}
    return [found[number] for number in range(1, len(free) + 1)] if len(found) == len(free) else None


def _bond(one: int, other: int) -> str:
    """Two attachment points joined by nothing but a bond."""
    return f"[{one}*][{other}*]"


def _neighbour(scaffold: Mol, dummy: int) -> int:
    return scaffold.GetAtomWithIdx(dummy).GetNeighbors()[0].GetIdx()


def _in_scaffold(scaffold: Mol, place: dict[int, int], ends: tuple[int, int]) -> bool:
    back = {there: here for here, there in place.items()}
    return scaffold.GetBondBetweenAtoms(back[ends[0]], back[ends[1]]) is not None


def put_together(scaffold: Mol, groups: Sequence[str]) -> str | None:
    """Canonical SMILES of a scaffold, or of a :func:`core`, with these R-groups; None where that is no molecule."""
    labelled = Chem.Mol(scaffold)
    joined_to = {int(match[2]): int(match[1]) for group in groups if (match := _BOND.fullmatch(group))}
    for number, dummy in enumerate(points(scaffold), 1):
        point = labelled.GetAtomWithIdx(dummy)
        number = point.GetIsotope() or number  # a core is marked already
        point.SetIsotope(joined_to.get(number, number))
    pieces = [group for group in dict.fromkeys(groups) if not _BOND.fullmatch(group)]
    whole = ".".join([Chem.MolToSmiles(labelled), *pieces])
    parts = Chem.MolFromSmiles(whole)
    if parts is None:
        return None
    options = Chem.MolzipParams()
    options.label = Chem.MolzipLabel.Isotope
    try:
        joined = Chem.RemoveHs(Chem.molzip(parts, options))
    except (ValueError, RuntimeError):
        return None
    smiles = chemistry.canonical(Chem.MolToSmiles(joined))
    return None if smiles is None or "." in smiles or "*" in smiles else smiles


def labelled(group: str, number: int) -> str:
    """A substituent with one ``*`` as the R-group of one attachment point: ``*CC`` -> ``[2*]CC``."""
    return group.replace("*", f"[{number}*]")
