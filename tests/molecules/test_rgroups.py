"""R-groups are what a molecule has beside its scaffold, and put together they are the molecule again."""

import numpy as np
import pytest

from molecules import chemistry
from molecules.chemistry import locked_scaffold, parse
from molecules.rgroups import points, put_together, r_groups

CASES = [
    ("*c1ccc(cc1)C(=O)N*", "CCOc1ccc(C(=O)NCC2CC2)cc1", ["[1*]OCC", "[2*]CC1CC1"]),
    ("*c1ccc(cc1)C(=O)N*", "NC(=O)c1ccccc1", ["[1*][H]", "[2*][H]"]),
    ("c1ccccc1N(*)*", "CCN(C)c1ccccc1", ["[1*]CC", "[2*]C"]),
    ("*c1ccccc1*", "C1CCc2ccccc2C1", ["[1*]CCCC[2*]", "[1*]CCCC[2*]"]),
    ("*C1CCNCC1", "O=C1CCNCC1", ["[1*]=O"]),
    ("*c1ccccc1", "c1ccc(-c2ccccc2)cc1", ["[1*]c1ccccc1"]),
    ("*c1ccccc1|*N1CCOCC1", "O=C(c1ccccc1)N1CCOCC1", ["[1*]C([2*])=O", "[1*]C([2*])=O"]),
    ("*c1ccccc1|*N1CCOCC1", "c1ccc(N2CCOCC2)cc1", ["[1*][2*]", "[1*][2*]"]),
]


@pytest.mark.parametrize(("scaffold", "smiles", "groups"), CASES)
def test_taken_apart_and_put_together(scaffold, smiles, groups):
    locked = locked_scaffold(scaffold)
    assert r_groups(parse(smiles), locked) == groups
    assert put_together(locked, groups) == chemistry.canonical(smiles)


def test_a_symmetric_scaffold_has_one_answer_however_the_molecule_is_written():
    locked, mol = locked_scaffold("*c1ccc(*)cc1"), parse("Cc1ccc(F)cc1")
    rng = np.random.default_rng(0)
    assert {tuple(r_groups(parse(chemistry.random_smiles(mol, rng)), locked)) for _ in range(10)} == {("[1*]C", "[2*]F")}


def test_what_does_not_keep_the_scaffold_has_no_groups():
    locked = locked_scaffold("*c1ccc(cc1)C(=O)N")
    assert r_groups(parse("CCc1ccc(cc1C)C(=O)N"), locked) is None and len(points(locked)) == 1
    assert put_together(locked, ["[1*]no"]) is None
