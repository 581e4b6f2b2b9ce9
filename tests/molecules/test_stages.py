"""Stages: one search after the other, with their own objectives and ends, resumed wherever they were killed."""

import csv
import json

import pytest

from molecules.chemistry import parse
from molecules.constraints import Similar
from molecules.tasks._journals import merge_journals

GIVEN = ["start=smiles", "start.smiles=[CCO,c1ccccc1O,CCCCN]", "constraints=none", "search=stoned", "parallel.backend=serial"]
STAGES = "stages=[{oracle: qed, budget: 60, stop_at: 0.45}, {budget: 25}]"
OWN = ["oracle=function", "oracle.function=asking:score"]


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The file in which the second stage's oracle writes down what it is asked."""
    file = tmp_path / "asked.txt"
    code = f"def score(smiles):\n    open({str(file)!r}, 'a').write(smiles + chr(10))\n    return len(smiles)\n"
    (tmp_path / "asking.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    return file


def test_each_stage_has_its_objective_and_its_end_and_none_is_paid_twice(typed, tmp_path, asked):
    assert typed("task=design", *GIVEN, *OWN, STAGES)[0] == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    first, second = result["stages"]
    assert first["objective"] == "qed" and first["reached"] and first["calls"] < 60 and first["best_score"] >= 0.45
    assert second["objective"] == "score" and second["calls"] == result["calls"] == 25 and not second["reached"]
    calls = [json.loads(line) for line in (tmp_path / "run" / "calls.jsonl").read_text().splitlines()]
    assert [c["stage"] for c in calls] == [1] * first["calls"] + [2] * 25
    best = max((c for c in calls if c["stage"] == 1), key=lambda c: c["score"])
    assert next(c for c in calls if c["stage"] == 2)["smiles"] == best["smiles"]  # the second begins where the first ended
    paid = asked.read_text().split()
    journal = tmp_path / "run" / "stages" / "2.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:10]))  # as a kill leaves it
    for name in ("result.json", "calls.jsonl"):
        (tmp_path / "run" / name).unlink()
    code, stderr = typed("task=design", *GIVEN, *OWN, STAGES)
    assert code == 2 and "continue it with resume=true" in stderr
    assert typed("task=design", *GIVEN, *OWN, STAGES, "resume=true")[0] == 0
    again = json.loads((tmp_path / "run" / "result.json").read_text())
    assert again["stages"] == result["stages"] and again["best"] == result["best"]
    assert len(asked.read_text().split()) == len(paid) + 15


def test_every_stage_is_as_similar_to_the_start_molecules_as_was_asked_for(typed, tmp_path):
    stages = "stages=[{oracle: qed, budget: 12, constraints: none}, {oracle: qed, budget: 12}]"
    assert typed("task=design", *GIVEN, stages, "constraints.similarity=0.9")[0] == 0
    references = Similar(["CCO", "c1ccccc1O", "CCCCN"], 0.9)
    with (tmp_path / "run" / "molecules.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["feasible"] == "1"]
    assert rows and all(references.violation(parse(row["smiles"])) == 0 for row in rows)


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        ("[{orcale: qed}]", "no option 'stages[1].orcale'; did you mean 'oracle'"),
        ("[{oracle: qed}, {budget: 0}]", "stages[2].budget is 0"),
        ("[{oracle: qedd}]", "There is no oracle=qedd"),
    ],
)
def test_a_mistake_ends_in_one_sentence(typed, stages, sentence):
    code, stderr = typed("task=design", *GIVEN, f"stages={stages}", "budget=5")
    assert code == 2 and sentence in " ".join(stderr.split())


def test_reasons_with_odd_line_ends_stay_in_their_line(tmp_path):
    rows = [{"smiles": "C", "error": "one\u2028two\x85three"}, {"smiles": "CC", "score": 1.0}]
    (tmp_path / "1.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    merge_journals(tmp_path, "start", [tmp_path / "1.jsonl", tmp_path / "never_begun.jsonl"])
    lines = (tmp_path / "calls.jsonl").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert [json.loads(line) for line in lines] == [{"start": 1} | row for row in rows]
