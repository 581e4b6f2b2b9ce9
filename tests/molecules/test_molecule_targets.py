"""Tables of molecules: one spelling each, everything odd said, scaffolds kept apart."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem

from molecules.chemistry import canonical, scaffold
from molecules.featurisers import ECFP4, Descriptors
from molecules.targets import b3db, molecules_csv
from reprogram.errors import ConfigError, DataError

SMILES = ["CCO", "c1ccccc1", "CC(=O)O", "CCN", "c1ccncc1", "CCCl", "Cc1ccccc1", "CCCC", "OCCO", "C1CCCCC1"]


@pytest.fixture
def table(tmp_path):
    def write(lines, name="m.csv", header="smiles,y"):
        (tmp_path / name).write_text("\n".join([header, *lines]) + "\n")
        return str(tmp_path / name)

    return write


def test_one_spelling_and_everything_odd_is_said(table):
    lines = [f"{s},{i % 2}" for i, s in enumerate(SMILES)]
    lines += ["OCC,0", "C(C)O,0", "n1ccccc1,1", "CC[NH3+].[Cl-],1", "C1CC,0", ",1", "not a smiles,0", "CCO CCN,1"]
    task = molecules_csv(table(lines), "smiles", "y")
    strings = task.train.strings + task.test.strings
    notes = " ".join(task.notes)
    assert all(s == canonical(s) for s in strings) and len(set(strings)) == len(strings)
    assert "1 row has a SMILES that RDKit cannot parse: left out (row 16)" in notes
    assert "empty SMILES: left out (row 17)" in notes and "several parts" in notes and "(row 15)" in notes
    assert "more than a SMILES in the cell: left out (rows 18, 19)" in notes
    assert "2 rows repeat" in notes, "the third is left out with the row that it contradicts"
    assert "disagree on the class" in notes and "c1ccncc1" not in strings
    assert "CC[NH3+].[Cl-]" in strings


def test_strings_as_written_stay_beside_the_canonical_ones(table):
    lines = [f"C(C){'C' * i}O,{i % 2}" for i in range(10)]
    task = molecules_csv(table(lines), "smiles", "y")
    for canonical_side, written_side in zip((task.train, task.test), task.written):
        assert [canonical(s) for s in written_side.strings] == canonical_side.strings
        assert written_side.strings != canonical_side.strings
        assert np.array_equal(written_side.labels, canonical_side.labels)


def test_salts_can_be_stripped(table):
    lines = [f"{s},{i % 2}" for i, s in enumerate(SMILES)] + ["CCC[NH3+].[Cl-],1", "[Na+].[Cl-],0"]
    task = molecules_csv(table(lines), "smiles", "y", salts="strip")
    strings = task.train.strings + task.test.strings
    assert "CCCN" in strings and not any("." in s for s in strings)
    assert "no organic part: left out (row 13)" in " ".join(task.notes)
    with pytest.raises(ConfigError, match="salts=remove"):
        molecules_csv(table(lines), "smiles", "y", salts="remove")


def test_scaffold_split_keeps_scaffolds_apart(table):
    rings = ["c1ccccc1", "c1ccncc1", "C1CCCCC1", "c1ccoc1", "c1ccsc1", "C1CCNCC1", "c1ccc2ccccc2c1", "C1CCOC1"]
    lines = [f"{tail}{ring},{(i + j) % 2}" for i, ring in enumerate(rings) for j, tail in enumerate(["C", "CC", "O"])]
    task = molecules_csv(table(lines), "smiles", "y", split="scaffold", test_size=0.3)
    sides = [{scaffold(s) for s in side.strings} for side in (task.train, task.test)]
    assert not sides[0] & sides[1] and len(task.test) >= 3 and task.split["how"] == "scaffold"


def test_the_same_molecule_in_train_and_test_is_refused_however_it_is_written(table):
    train = table([f"{s},{i % 2}" for i, s in enumerate(SMILES)])
    test = table(["C(O)C,0", "CCCCCC,1"], "test.csv")
    with pytest.raises(DataError, match="1 example is in both"):
        molecules_csv(train, "smiles", "y", test_path=test)


def test_no_molecule_at_all(table):
    with pytest.raises(DataError, match="No row of"):
        molecules_csv(table(["C1CC,0", "xyz,1"]), "smiles", "y")


def test_values(table):
    task = molecules_csv(table([f"{s},{i / 7}" for i, s in enumerate(SMILES)]), "smiles", "y")
    assert task.info.problem == "regression" and task.info.kind == "molecule"


def test_featurisers():
    bits = ECFP4()(["CCO", "CCO", "c1ccccc1"])
    assert bits.shape == (3, 2048) and np.array_equal(bits[0], bits[1]) and set(np.unique(bits)) == {0.0, 1.0}
    values = Descriptors()(["CCO", "[Na+].[Cl-]"])
    assert values.shape[1] > 200 and np.isfinite(values).all()
    with pytest.raises(DataError, match="'C1CC'"):
        ECFP4()(["C1CC"])


def test_bundled_blood_brain_barrier():
    task = b3db(labels=16, problem="regression")
    assert task.info.classes == ("logBB",) and len(task.train) == 16 and len(task.test) > 180
    with pytest.raises(ConfigError, match="classification or regression"):
        b3db(problem="multilabel")


@pytest.mark.parametrize("name", ["", "M 7"])
def test_records_of_an_sdf_file_are_read_with_and_without_a_name(tmp_path, name):
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")).split("\n", 1)[1]  # RDKit writes an empty first line by default
    (tmp_path / "m.sdf").write_text(f"{name}\n{block}> <y>\n1.5\n\n$$$$\n" * 2)
    found = list(molecules_csv.inputs(str(tmp_path / "m.sdf"), "structure"))
    assert [(i.content, i.problem, i.columns["name"], i.columns["y"]) for i in found] == 2 * [("CCO", "", name, "1.5")]
