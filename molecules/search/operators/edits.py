"""Single edits of a molecular graph: each takes a parent, returns an edited graph or None where it does not apply.

The edits of Jensen's graph-based genetic algorithm (Chem. Sci. 2019, 10:3567) written as direct graph operations
instead of reaction SMARTS, and a few more (move a substituent, swap two elements, exchange or append a fragment).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random

from rdkit import Chem

from molecules.search.operators.graph import ORDER, SINGLE, Graph

VALENCE = {6: 4, 7: 3, 8: 2, 9: 1, 16: 2, 17: 1, 35: 1, 15: 3, 53: 1}
ELEMENTS = {6: 6.0, 7: 4.0, 8: 4.0, 9: 1.5, 16: 1.0, 17: 1.0, 35: 0.3, 15: 0.1, 53: 0.05}  # how often each is tried
ASKED = 3.0  # weight of an element of which the best molecules have one more than all that were evaluated

Edit = Callable[[Graph, Random], "Chem.RWMol | None"]


class Elements:
    """Which elements edits bring in: fixed weights, and more of what the best molecules have more of than the others."""

    def __init__(self) -> None:
        self._weights = dict(ELEMENTS)

    def ask(self, surplus: Mapping[int, float]) -> None:
        """surplus: by atomic number, how many more atoms of it the best molecules have."""
        self._weights = {e: w + ASKED * min(max(surplus.get(e, 0.0), 0.0), 1.0) for e, w in ELEMENTS.items()}

    def draw(self, random: Random, least_valence: int) -> int | None:
        able = [(e, w) for e, w in self._weights.items() if VALENCE[e] >= least_valence]
        return random.choices([e for e, _ in able], [w for _, w in able])[0] if able else None


USUAL = Elements()


def _valence(parent: Graph, at: int) -> int:
    return sum(parent.neighbours[at].values())


def change_atom(parent: Graph, random: Random, elements: Elements = USUAL) -> Chem.RWMol | None:
    """Another element on the same bonds."""
    at = random.randrange(parent.size)
    if parent.charges[at]:
        return None
    element = elements.draw(random, _valence(parent, at))
    if element is None or element == parent.elements[at]:
        return None
    edited = Chem.RWMol(parent.mol)
    edited.GetAtomWithIdx(at).SetAtomicNum(element)
    return edited


def append_atom(parent: Graph, random: Random, elements: Elements = USUAL) -> Chem.RWMol | None:
    """A new atom by a single, double or triple bond in place of hydrogens."""
    if not parent.open_atoms:
        return None
    at = random.choice(parent.open_atoms)
    order = min(random.choices([1, 2, 3], [0.7, 0.26, 0.04])[0], parent.hydrogens[at])
    edited = Chem.RWMol(parent.mol)
    edited.AddBond(at, edited.AddAtom(Chem.Atom(elements.draw(random, order) or 6)), ORDER[order])
    return edited


def insert_atom(parent: Graph, random: Random, elements: Elements = USUAL) -> Chem.RWMol | None:
    """A new atom in the middle of a single bond."""
    singles = [(i, j) for i, j, order, _ in parent.bonds if order == 1]
    if not singles:
        return None
    i, j = random.choice(singles)
    edited = Chem.RWMol(parent.mol)
    edited.RemoveBond(i, j)
    new = edited.AddAtom(Chem.Atom(elements.draw(random, 2) or 6))
    edited.AddBond(i, new, SINGLE)
    edited.AddBond(new, j, SINGLE)
    return edited


def delete_atom(parent: Graph, random: Random) -> Chem.RWMol | None:
    """An atom with one or two neighbours goes; two neighbours are joined."""
    able = [i for i in range(parent.size) if len(parent.neighbours[i]) <= 2]
    if parent.size < 3 or not able:
        return None
    at = random.choice(able)
    near = list(parent.neighbours[at])
    edited = Chem.RWMol(parent.mol)
    if len(near) == 2:
        if near[1] in parent.neighbours[near[0]]:
            return None
        order = min(parent.neighbours[at].values())
        edited.AddBond(near[0], near[1], ORDER[order])
    edited.RemoveAtom(at)
    return edited


def change_bond(parent: Graph, random: Random) -> Chem.RWMol | None:
    """A bond order up or down."""
    if not parent.bonds:
        return None
    i, j, order, _ = random.choice(parent.bonds)
    up = order < 3 and min(parent.hydrogens[i], parent.hydrogens[j]) > 0
    down = order > 1
    if not up and not down:
        return None
    new = order + 1 if up and (not down or random.random() < 0.5) else order - 1
    edited = Chem.RWMol(parent.mol)
    edited.GetBondBetweenAtoms(i, j).SetBondType(ORDER[new])
    return edited


def close_ring(parent: Graph, random: Random) -> Chem.RWMol | None:
    """A bond between two atoms with hydrogens that makes a ring of three to seven, mostly five or six, atoms."""
    if len(parent.open_atoms) < 2:
        return None
    start = random.choice(parent.open_atoms)
    bonds = random.choices([2, 3, 4, 5, 6], [0.5, 0.3, 4, 5, 0.7])[0]
    far = parent.distances(start)
    ends = [i for i in parent.open_atoms if far[i] == bonds]
    if not ends:
        return None
    edited = Chem.RWMol(parent.mol)
    edited.AddBond(start, random.choice(ends), SINGLE)
    return edited


def open_ring(parent: Graph, random: Random) -> Chem.RWMol | None:
    """A ring bond goes."""
    rings = [(i, j) for i, j, order, ring in parent.bonds if ring and order == 1]
    if not rings:
        return None
    edited = Chem.RWMol(parent.mol)
    edited.RemoveBond(*random.choice(rings))
    return edited


def aromatise(parent: Graph, random: Random) -> Chem.RWMol | None:
    """A six-membered carbon ring gets alternating double bonds, or an aromatic one loses its own."""
    six = [ring for ring in parent.rings if len(ring) in (5, 6)]
    if not six:
        return None
    ring = random.choice(six)
    edited = Chem.RWMol(parent.mol)
    size = len(ring)
    if parent.aromatic[ring[0]] and all(parent.aromatic[i] for i in ring):
        shared = sum(i in other for other in parent.rings if other is not ring for i in ring)
        if shared:
            return None
        for k in range(size):
            edited.GetBondBetweenAtoms(ring[k], ring[(k + 1) % size]).SetBondType(SINGLE)
        return edited
    shift = random.randrange(size)
    for k in range(0, size - 1, 2):
        i, j = ring[(k + shift) % size], ring[(k + shift + 1) % size]
        if parent.neighbours[i][j] == 1 and min(parent.hydrogens[i], parent.hydrogens[j]) < 1:
            return None
        edited.GetBondBetweenAtoms(i, j).SetBondType(ORDER[2])
    return edited


def move_substituent(parent: Graph, random: Random) -> Chem.RWMol | None:
    """A substituent moves to another atom, mostly a near one (ortho to meta)."""
    cut = parent.pick_cut(random)
    if cut is None:
        return None
    stays, moves = cut
    branch = parent.side(moves, {(stays, moves), (moves, stays)})
    if len(branch) > parent.size // 2:
        return None
    far = parent.distances(stays)
    places = [i for i in parent.open_atoms if i not in branch and i != stays]
    if not places:
        return None
    to = random.choices(places, [1.0 / far[i] ** 2 for i in places])[0]
    edited = Chem.RWMol(parent.mol)
    edited.RemoveBond(stays, moves)
    edited.AddBond(to, moves, SINGLE)
    return edited


def swap_elements(parent: Graph, random: Random) -> Chem.RWMol | None:
    """Two atoms of different elements exchange places."""
    hetero = [i for i in range(parent.size) if parent.elements[i] != 6 and not parent.charges[i]]
    if not hetero:
        return None
    i, j = random.choice(hetero), random.randrange(parent.size)
    a, b = parent.elements[i], parent.elements[j]
    if a == b or parent.charges[j]:
        return None
    if _valence(parent, i) > VALENCE.get(b, 0) or _valence(parent, j) > VALENCE.get(a, 0):
        return None
    edited = Chem.RWMol(parent.mol)
    edited.GetAtomWithIdx(i).SetAtomicNum(b)
    edited.GetAtomWithIdx(j).SetAtomicNum(a)
    return edited


EDITS: dict[str, Edit] = {
    f.__name__: f
    for f in (
        change_atom,
        append_atom,
        insert_atom,
        delete_atom,
        change_bond,
        close_ring,
        open_ring,
        aromatise,
        move_substituent,
        swap_elements,
    )
}


def edits_with(elements: Elements) -> dict[str, Edit]:
    """:data:`EDITS` in which these elements are brought in."""
    bringing = (change_atom, append_atom, insert_atom)
    return EDITS | {f.__name__: partial(f, elements=elements) for f in bringing}


def join(
    left: Graph, keep_left: set[int], right: Graph, keep_right: set[int], bonds: list[tuple[int, int, int]]
) -> Chem.RWMol:
    """Atoms ``keep_left`` of one parent and ``keep_right`` of another, joined by bonds (left, right, order)."""
    edited = Chem.RWMol(Chem.CombineMols(left.mol, right.mol))
    for i, j, order in bonds:
        edited.AddBond(i, left.size + j, ORDER[order])
    edited.BeginBatchEdit()
    for i in range(left.size):
        if i not in keep_left:
            edited.RemoveAtom(i)
    for j in range(right.size):
        if j not in keep_right:
            edited.RemoveAtom(left.size + j)
    edited.CommitBatchEdit()
    return edited


def cross(left: Graph, right: Graph, random: Random, max_atoms: int) -> Chem.RWMol | None:
    """Each parent is cut at a single bond outside rings; one side of each is joined."""
    if not left.cuts or not right.cuts:
        return None
    for _ in range(5):
        a, other_a = random.choice(left.cuts)
        b, other_b = random.choice(right.cuts)
        keep_left = left.side(a, {(a, other_a), (other_a, a)})
        keep_right = right.side(b, {(b, other_b), (other_b, b)})
        if len(keep_left) + len(keep_right) <= max_atoms:
            return join(left, keep_left, right, keep_right, [(a, b, 1)])
    return None


def cross_rings(left: Graph, right: Graph, random: Random, max_atoms: int) -> Chem.RWMol | None:
    """Each parent is cut through a ring; the halves close a new ring."""
    for _ in range(5):
        first, second = left.ring_cut(random), right.ring_cut(random)
        if first is None or second is None:
            continue
        keep_left, a, b, order_a, order_b = first
        keep_right, c, d, order_c, order_d = second
        if len(keep_left) + len(keep_right) > max_atoms or (a == b and c == d):
            continue
        return join(left, keep_left, right, keep_right, [(a, c, min(order_a, order_c)), (b, d, min(order_b, order_d))])
    return None


def replace_fragment(parent: Graph, fragment: Graph, random: Random) -> Chem.RWMol | None:
    """The smaller side of a cut is exchanged for a library fragment (its attachment is atom 0)."""
    cut = parent.pick_cut(random)
    if cut is None:
        return None
    kept = parent.side(cut[0], {cut, cut[::-1]})
    if 2 * len(kept) < parent.size:
        return None
    return join(parent, kept, fragment, set(range(fragment.size)), [(cut[0], 0, 1)])


def append_fragment(parent: Graph, fragment: Graph, random: Random) -> Chem.RWMol | None:
    """A library fragment in place of a hydrogen."""
    if not parent.open_atoms:
        return None
    everything = set(range(parent.size))
    return join(parent, everything, fragment, set(range(fragment.size)), [(random.choice(parent.open_atoms), 0, 1)])


def ring_system(parent: Graph, random: Random) -> tuple[set[int], list[tuple[int, int]]] | None:
    """Atoms of a random ring system with its double-bonded neighbours, and its bonds to the outside (in, out)."""
    if not parent.rings:
        return None
    system = set(random.choice(parent.rings))
    grown = True
    while grown:
        touching = [set(ring) for ring in parent.rings if system & set(ring) and not set(ring) <= system]
        grown = bool(touching)
        system = system.union(*touching)
    outside = [(i, j) for i in system for j in parent.neighbours[i] if j not in system]
    double = {j for i, j in outside if parent.neighbours[i][j] == 2 and len(parent.neighbours[j]) == 1}
    bonds = [(i, j) for i, j in outside if j not in double]
    return (system | double, bonds) if all(parent.neighbours[i][j] == 1 for i, j in bonds) else None


def replace_core(parent: Graph, core: Graph, ends: list[int], chosen: tuple, random: Random) -> Chem.RWMol | None:
    """A ring system is exchanged for another with as many open ends; the substituents are dealt out at random."""
    system, bonds = chosen
    if len(bonds) != len(ends):
        return None
    dealt = random.sample(ends, len(ends))
    kept = set(range(parent.size)) - system
    return join(parent, kept, core, set(range(core.size)), [(out, end, 1) for (_, out), end in zip(bonds, dealt)])
