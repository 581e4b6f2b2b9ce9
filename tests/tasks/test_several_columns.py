"""Runs on tables with several label columns: yes and no with gaps, and values, of which a program answers one."""

import csv
import json

import pytest


@pytest.fixture
def table(text_models, tmp_path):
    """Arguments of a run on sixty texts with the columns ``good``, ``long`` (with gaps) and ``words``."""
    lines = ["text,good,long,words"]
    for i in range(60):
        good, long = i % 2, i % 3 > 0
        text = f"{'good' if good else 'bad'} {'the film ' * (3 if long else 1)}{'abcdefghij'[i % 10]}"
        lines.append(f"{text} {'abcdefghij'[i // 10]},{good},{'' if i % 5 == 0 else int(long)},{len(text.split()) + 0.5}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    source = ["source=text", f"source.model={text_models('bert')}", "output=ridge_taps", "task.baselines=[]", "device=cpu"]
    return [*source, "target=csv", "target.path=t.csv", "target.input_column=text"]


def test_answers_that_are_missing_end_no_run(typed, table, tmp_path):
    code, said = typed(*table, "target.label_column=[good,long]")
    assert code == 0, said
    with (tmp_path / "run" / "predictions.csv").open() as file:
        measured = {row["row"]: row for row in csv.DictReader(file)}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["target"]["problem"] == "multilabel"
    where = ["target=csv", "target.path=t.csv", "target.input_column=text", "device=cpu"]
    code, said = typed("task=predict", "program=run/program", *where, folder="new")
    assert code == 0, said
    with (tmp_path / "new" / "predictions.csv").open() as file:
        again = {row["row"]: row for row in csv.DictReader(file)}
    assert len(again) == 60 and len(measured) == 12
    for row, line in measured.items():
        assert line["prediction"] == again[row]["prediction"]
        assert float(line["p:long"]) == pytest.approx(float(again[row]["p:long"]), abs=1e-4)


def test_several_columns_of_values_are_refused_before_any_work(typed, table):
    code, said = typed(*table, "target.label_column=[words,good]")
    assert code == 2 and "2 columns of which one at least holds values (words, good)" in said
