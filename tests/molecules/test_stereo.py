"""Stereo marks: dropped with a note, kept where an edit leaves them alone, or varied."""

from random import Random

import numpy as np
import pytest
from rdkit import Chem

from molecules.chemistry import canonical, parse
from molecules.constraints import Constraints, Scaffold
from molecules.evaluator import Evaluator
from molecules.objective import Objective
from molecules.oracles.descriptor import Descriptor
from molecules.run_search import stereo_note
from molecules.search.genetic import Genetic
from molecules.search.operators.library import default_library
from molecules.search.operators.offspring import Offspring
from molecules.search.operators.stereo import inherit, numbered, take_numbers, vary

MARKED = [
    "C[C@H](N)C(=O)N[C@@H](Cc1ccccc1)C(=O)O",
    "F/C(Cl)=C(/Br)c1ccccc1",
    "C[C@H]1CC[C@@H](C(=O)N2CCC[C@@H]2C#N)CC1",
    "C[C@]12CC[C@H]3[C@@H](CCC4=CC(=O)CC[C@@]43C)[C@@H]1CC[C@@H]2O",
    "C(=C\\c1ccccc1)/CN1CCOCC1",
    "C[S@](=O)c1ccccc1",
    "C#C[C@]1(O)CC[C@H]2[C@@H]3CCC4=C/C(=N/O)CC[C@@H]4[C@H]3CC[C@@]21CC",
]


def edited(smiles, change, order=None):
    """A molecule after an edit of its numbered graph, with the marks it inherits."""
    mol = Chem.RWMol(numbered(canonical(smiles)).mol)
    change(mol)
    if order is not None:
        mol = Chem.RWMol(Chem.RenumberAtoms(mol, order.permutation(mol.GetNumAtoms()).tolist()))
    numbers = take_numbers(mol)
    Chem.SanitizeMol(mol)
    return canonical(Chem.MolToSmiles(inherit(mol, numbers, parse(canonical(smiles)))))


@pytest.mark.parametrize("smiles", MARKED)
def test_marks_survive_any_order_of_the_atoms(smiles):
    rng = np.random.default_rng(0)
    assert {edited(smiles, lambda mol: None, rng) for _ in range(5)} == {canonical(smiles)}


def test_an_exchanged_neighbour_stands_where_the_old_one_stood():
    def chlorine_for_the_methyl(mol):
        at = mol.GetSubstructMatch(Chem.MolFromSmarts("[CH3]C(N)C=O"))[0]
        near = mol.GetAtomWithIdx(at).GetNeighbors()[0].GetIdx()
        mol.AddBond(near, mol.AddAtom(Chem.Atom(17)), Chem.BondType.SINGLE)  # last in the list of bonds
        mol.RemoveAtom(at)

    assert edited("C[C@H](N)C(=O)O", chlorine_for_the_methyl) == canonical("Cl[C@H](N)C(=O)O")
    assert edited("C[C@@H](N)C(=O)O", chlorine_for_the_methyl) == canonical("Cl[C@@H](N)C(=O)O")


def children(stereo, parent, count=80):
    offspring = Offspring(Random(0), default_library(), 60, 8, stereo)
    return [c for _ in range(count) if (c := offspring.child(parent, lambda: "CCOc1ccccc1")) is not None]


def test_drop_keep_and_vary():
    parent = canonical(MARKED[0])
    assert not any("@" in c.smiles for c in children("drop", parent))
    kept = children("keep", parent)
    assert sum("@" in c.smiles for c in kept) > len(kept) / 3
    varied = children("vary", parent)
    turned = {c.smiles for c in varied if c.edit == "turn"}
    assert turned and all(canonical(s) == s and s != parent for s in turned)
    assert {Chem.MolToSmiles(parse(s), isomericSmiles=False) for s in turned} == {
        Chem.MolToSmiles(parse(parent), isomericSmiles=False)
    }
    assert all(c.smiles == canonical(c.smiles) for c in kept + varied)


def test_vary_gives_every_centre_a_configuration():
    mol = vary(parse("CC(N)C(=O)NC(CO)C=CC"), Random(0), flip=False)
    smiles = Chem.MolToSmiles(mol)
    assert smiles.count("@") >= 2 and "/" in smiles


@pytest.mark.parametrize("stereo", ["keep", "vary"])
def test_a_search_keeps_the_configuration_of_a_locked_scaffold(stereo):
    start = canonical("C[C@H](N)C(=O)Nc1ccccc1")
    evaluator = Evaluator(Objective.of(Descriptor("qed"), Constraints([Scaffold("CC(N)C(=O)N*")])), 60)
    Genetic(stereo=stereo).run(evaluator, [start], np.random.default_rng(0))
    with_marks = [s.smiles for s in evaluator.calls if "@" in s.smiles]
    assert len(evaluator.calls) == 60 and len(with_marks) > 30


def test_what_is_lost_is_said():
    (note,) = stereo_note(Genetic(), ["CCO", MARKED[0]])
    assert "1 of 2 start molecules has stereo marks" in note and "search.stereo=keep" in note
    assert not stereo_note(Genetic(stereo="keep"), [MARKED[0]]) and not stereo_note(Genetic(), ["CCO"])
