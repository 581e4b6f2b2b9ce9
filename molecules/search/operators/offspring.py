"""Offspring of evaluated molecules: how often each edit is tried is learned from what succeeded."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from rdkit import Chem

from molecules.chemistry import Mol, canonical, parse
from molecules.search.operators.edits import (
    Elements,
    append_fragment,
    cross,
    cross_rings,
    edits_with,
    replace_core,
    replace_fragment,
    ring_system,
)
from molecules.search.operators.graph import Graph, finish, graph
from molecules.search.operators.library import Library
from molecules.search.operators.regroup import SHARE, regroup
from molecules.search.operators.stereo import FLIPPED, has_marks, inherit, numbered, take_numbers, vary
from molecules.search.operators.weights import EditWeights

WEIGHTS = {
    "cross": 6.0,
    "cross_rings": 3.0,
    "replace_fragment": 2.0,
    "append_fragment": 1.0,
    "replace_core": 1.5,
    "change_atom": 2.0,
    "move_substituent": 1.5,
    "append_atom": 1.5,
    "insert_atom": 1.5,
    "delete_atom": 1.5,
    "double_edit": 1.5,
    "change_bond": 1.0,
    "close_ring": 1.0,
    "swap_elements": 1.0,
    "open_ring": 0.5,
    "aromatise": 0.5,
}


class Child(NamedTuple):
    """A new molecule with the parent it came from, the edit that made it, and how far it misses the constraints.

    inner: where the edit stands on another one, that one.
    """

    smiles: str
    mol: Mol
    parent: str
    edit: str
    violation: float = 0.0
    inner: str = ""


def _written(mol: Mol, parent: str, edit: str) -> Child | None:
    """A molecule with stereo marks as a child; read again, because marks that mean nothing go when it is written."""
    smiles = canonical(Chem.MolToSmiles(mol))
    read = None if smiles is None or smiles == parent else parse(smiles)
    return None if smiles is None or read is None else Child(smiles, read, parent, edit)


class Offspring:
    """Makes children by random edits; ``reward`` shifts the edits' weights towards what worked.

    stereo: ``drop``: children are flat; ``keep``: they inherit the marks of their parent that the edit did not touch;
    ``vary``: every possible centre and double bond has a configuration, and configurations are changed, too.
    scaffold: that must stay; most children then differ in an R-group alone.
    """

    def __init__(
        self,
        random: Random,
        library: Library,
        max_atoms: int,
        max_rings: int,
        stereo: str = "drop",
        scaffold: Mol | None = None,
    ) -> None:
        self.random, self.library, self.max_atoms, self.max_rings = random, library, max_atoms, max_rings
        self.stereo, self.scaffold = stereo, scaffold
        self.elements = Elements()
        self.single = edits_with(self.elements)
        self.edits = EditWeights(WEIGHTS, random)
        self.reward = self.edits.reward

    def child(self, parent: str, mate: Callable[[], str]) -> Child | None:
        """One child of ``parent``; crossovers ask ``mate`` for a second parent. None if the edit did not work out."""
        if self.scaffold is not None and self.random.random() < SHARE:
            return self._regrouped(parent, mate(), self.scaffold)
        if self.stereo != "drop" and (self.stereo == "vary" or has_marks(parent)):
            return self._with_stereo(parent, mate)
        base = graph(parent)
        if base is None:
            return None
        name = self.edits.draw()
        edited = self._edit(name, base, mate)
        if edited is None:
            return None
        made = finish(edited, self.max_atoms, self.max_rings)
        return None if made is None or made[0] == parent else Child(made[0], made[1], parent, name)

    def _regrouped(self, parent: str, mate: str, scaffold: Mol) -> Child | None:
        smiles = regroup(parent, mate, scaffold, self.library, self.random, flat=self.stereo == "drop")
        mol = None if smiles is None else parse(smiles)
        if mol is None or mol.GetNumAtoms() > self.max_atoms or mol.GetRingInfo().NumRings() > self.max_rings:
            return None
        if self.stereo == "drop":
            mol = Chem.Mol(mol)
            Chem.RemoveStereochemistry(mol)
        return _written(vary(mol, self.random, flip=False) if self.stereo == "vary" else mol, parent, "regroup")

    def _with_stereo(self, parent: str, mate: Callable[[], str]) -> Child | None:
        """The same, with the stereo marks that the edit left alone, and random ones under ``vary``."""
        before, base = parse(parent), numbered(parent)
        if before is None or base is None:
            return None
        if self.stereo == "vary" and self.random.random() < FLIPPED:
            return _written(vary(before, self.random, flip=True), parent, "turn")
        name = self.edits.draw()
        edited = self._edit(self.random.choice(list(self.single)) if name == "double_edit" else name, base, mate)
        if edited is None:
            return None
        numbers = take_numbers(edited)
        made = finish(edited, self.max_atoms, self.max_rings)
        if made is None:
            return None
        child = inherit(made[1], numbers, before)
        return _written(vary(child, self.random, flip=False) if self.stereo == "vary" else child, parent, name)

    def assemble(self) -> Child | None:
        """A molecule without a parent, put together from the library's pieces. None if it did not work out."""
        edited = self.library.assemble(self.random)
        made = None if edited is None else finish(edited, self.max_atoms, self.max_rings)
        return None if made is None else Child(made[0], made[1], "", "assemble")

    def _edit(self, name: str, base: Graph, mate: Callable[[], str]) -> Chem.RWMol | None:
        random = self.random
        if name in self.single:
            return self.single[name](base, random)
        if name in ("cross", "cross_rings"):
            other = graph(mate())
            if other is None:
                return None
            return (cross if name == "cross" else cross_rings)(base, other, random, self.max_atoms)
        if name == "double_edit":
            first = self.single[random.choice(list(self.single))](base, random)
            made = None if first is None else finish(first, self.max_atoms, self.max_rings)
            middle = None if made is None else graph(made[0])
            return None if middle is None else self.single[random.choice(list(self.single))](middle, random)
        if name == "replace_core":
            chosen = ring_system(base, random)
            if chosen is None:
                return None
            core = self.library.draw(len(chosen[1]), random)
            return None if core is None else replace_core(base, core.graph, core.ends, chosen, random)
        piece = self.library.draw(1, random)
        if piece is None:
            return None
        return (replace_fragment if name == "replace_fragment" else append_fragment)(base, piece.graph, random)
