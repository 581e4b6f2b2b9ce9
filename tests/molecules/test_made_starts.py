"""Scaffolds, linkers and quick SAR: start molecules that are made, and their columns in a run."""

import csv
import json

import numpy as np
import pytest

from molecules.chemistry import canonical, parse
from molecules.constraints import Constraints, Scaffold
from molecules.evaluator import Evaluator
from molecules.made_starts import Decorated, Linked, Replaced
from molecules.objective import Objective
from molecules.oracles.descriptor import Descriptor
from molecules.replacements import replacements
from molecules.report import write_csv
from molecules.rgroups import put_together
from molecules.search.genetic import Genetic
from molecules.tasks.score import ScoredRow, limited
from reprogram.errors import ConfigError

RNG = np.random.default_rng(0)
SCAFFOLD, LINKER = "*c1ccc(cc1)C(=O)N*", "*c1ccccc1|*N1CCOCC1"


def test_a_scaffold_is_decorated_at_its_attachment_points_alone():
    made = Decorated(SCAFFOLD, 20).read(RNG).smiles
    assert len(made) == 20 and not any(Scaffold(SCAFFOLD).violation(parse(s)) for s in made)
    assert len({tuple(Scaffold(SCAFFOLD).values(parse(s))) for s in made}) == 20
    with pytest.raises(ConfigError, match="no attachment point"):
        Decorated("c1ccccc1")


def test_two_parts_are_linked():
    made = Linked(LINKER, 20).read(RNG).smiles
    assert len(made) == 20 and not any(Scaffold(LINKER).violation(parse(s)) for s in made)
    assert Scaffold(LINKER).columns() == ["linker"] and Scaffold(SCAFFOLD).columns() == ["R1", "R2"]
    for wrong in ("*c1ccccc1", "*c1ccccc1*|*N1CCOCC1", "c1ccccc1|*C", "*c1ccccc(|*C"):
        with pytest.raises(ConfigError, match=r"start\.linker"):
            Linked(wrong)


@pytest.mark.parametrize(
    ("marked", "names", "one"),
    [
        ("COc1ccc([CH2:1]c2ccccc2)cc1", {"O", "NH", "CF2", "C=O", "SO2", "CHMe"}, "COc1ccc(Oc2ccccc2)cc1"),
        ("CC(=O)Nc1ccc([OH:1])cc1", {"H", "F", "methoxy", "CF3", "cyano"}, "CC(=O)Nc1ccc(C#N)cc1"),
        ("Cc1[cH:1]cccc1", {"N", "C-F", "C-methoxy"}, "Cc1ccccn1"),
        ("Cc1c[nH:1]cc1", {"O", "S"}, "Cc1ccoc1"),
        ("CC(=O)[N:1]1CCOCC1", {"CH", "CMe"}, "CC(=O)C1CCOCC1"),
        ("CC[C:1](=O)Nc1ccccc1", {"CH2", "SO2"}, "CCCNc1ccccc1"),
    ],
)
def test_quick_sar_lists_the_usual_replacements_and_nothing_else_changes(marked, names, one):
    found = dict((name, smiles) for name, smiles in replacements(marked))
    assert next(iter(found)) == "as it is" and names <= set(found) and canonical(one) in found.values()
    assert len(set(found.values())) == len(found) and all(parse(s) is not None for s in found.values())
    assert Replaced(marked).read(RNG).smiles == list(found.values())


def test_quick_sar_names_what_it_needs():
    for wrong in ("CCO", "[CH3:1][CH3:2]", "C(("):
        with pytest.raises(ConfigError, match="one atom that carries a map number"):
            replacements(wrong)
    with pytest.raises(ConfigError, match="no usual replacement"):
        list(Replaced("C[c:1]1ccccc1").rows(RNG))


@pytest.mark.parametrize("start", [Decorated(SCAFFOLD, 10), Linked(LINKER, 10)])
def test_a_search_keeps_the_scaffold_and_its_table_makes_every_molecule_again(start, tmp_path):
    scaffold = Scaffold(SCAFFOLD if isinstance(start, Decorated) else LINKER)
    objective = Objective.of(Descriptor("qed"), Constraints([scaffold]))
    evaluator = Evaluator(objective, 60)
    Genetic().run(evaluator, start.read(RNG).smiles, np.random.default_rng(0))
    write_csv(tmp_path / "molecules.csv", evaluator.calls, objective)
    rows = list(csv.DictReader((tmp_path / "molecules.csv").open()))
    assert len(rows) == 60 and all(float(row["violates scaffold"]) == 0 for row in rows)
    for row in rows:
        groups = [row[name] for name in scaffold.columns()]
        assert put_together(scaffold.locked, groups * (2 if scaffold.links else 1)) == row["smiles"]


def test_every_row_of_a_scored_file_comes_back_in_its_place(typed, tmp_path):
    lines = ["CCO ethanol", "nonsense", "", "c1ccncc1C(=O)NC", "OCC again", "[Na+].[Cl-]", "CC(=O)[O-].[Na+]", "*CC"]
    (tmp_path / "mine.smi").write_text("\n".join(lines) + "\n")
    words = ["task=score", "oracle=qed", "start=file", f"start.path={tmp_path / 'mine.smi'}", "parallel.backend=serial"]
    code, stderr = typed(*words)
    assert code == 0, stderr
    rows = list(csv.DictReader((tmp_path / "run" / "scores.csv").open()))
    assert [row["row"] for row in rows] == [f"line {i}" for i in range(1, 9)]
    assert [row["reason"] for row in rows] == [
        "", "not a molecule that RDKit can read", "the row is empty", "", "", "without carbon", "", "open attachment points (*)",
    ]  # fmt: skip
    assert rows[0]["score"] == rows[4]["score"] and rows[6]["smiles"] == "CC(=O)O" and "salt" in rows[6]["changed"]
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["task"] == "score" and result["calls"] == 3 and "3 molecules scored" in result["verdict"]
    assert len((tmp_path / "run" / "calls.jsonl").read_text().splitlines()) == 3
    assert (tmp_path / "run" / "report.html").exists()


def test_a_limit_of_start_molecules_holds_without_a_search_too():
    rows = [ScoredRow(str(i), "", smiles) for i, smiles in enumerate(["CCO", None, "CCO", "CCN", "CCC"])]
    assert limited(rows, 2) == rows[:4] and limited(rows, None) == rows
