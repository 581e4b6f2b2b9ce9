"""task=predict: inputs without labels in, every row back in its place, whatever happens on the way."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CASES = Path(__file__).parents[1] / "targets" / "cases"


def rows_of(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def kept(text_models, tmp_path_factory):
    """Two kept programs on a tiny random language model: of classes, and of values."""
    from reprogram import cli

    folder = tmp_path_factory.mktemp("kept")
    rng = np.random.default_rng(0)
    lines = ["text,topic,value"]
    for i in range(60):
        good = i % 2
        words = rng.permutation(["good", "the", "film"] if good else ["bad", "film", "a"])
        lines.append(f"{' '.join(words)} {'abcdefghij'[i % 10]},{'yes' if good else 'no'},{good + 0.01 * i:.3f}")
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    source = ["source=text", f"source.model={text_models('bert')}"]
    before, sys_argv = Path.cwd(), sys.argv
    try:
        for name, label in (("classes", "topic"), ("values", "value")):
            target = ["target=csv", f"target.path={folder / 'train.csv'}", "target.input_column=text"]
            program = ["input=text", "output=ridge_taps", "task.baselines=[]", "device=cpu"]
            sys.argv = ["train.py", *source, *target, f"target.label_column={label}", *program, f"run_dir={folder / name}"]
            with pytest.raises(SystemExit) as exit:
                cli.main()
            assert exit.value.code == 0, "the program was not made"
    finally:
        os.chdir(before)
        sys.argv = sys_argv
    return folder


def table(folder, count=300, bad=3):
    """A CSV with ids, notes and some rows that cannot be read."""
    lines = ["text,id,note"]
    for i in range(count):
        text = "   " if i % (count // bad) == 5 else f"{'good' if i % 3 else 'bad'} the {'abcdefghij'[i % 10]}"
        lines.append(f'{text},A{i},"n, {i}"')
    path = folder / "new.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def predicted(typed, program, path, *more):
    where = ["target=csv", f"target.path={path}", "target.input_column=text", "device=cpu"]
    return typed("task=predict", f"program={program}/program", *where, *more)


def test_every_row_comes_back_in_its_place_with_the_users_columns(typed, kept, tmp_path):
    path = table(tmp_path)
    code, stderr = predicted(typed, kept / "classes", path, "task.chunk=64")
    assert code == 0, stderr
    found, given = rows_of(tmp_path / "run" / "predictions.csv"), rows_of(path)
    assert [row["id"] for row in found] == [row["id"] for row in given]
    assert [row["note"] for row in found] == [row["note"] for row in given]
    assert list(found[0])[:2] == ["row", "prediction"] and {"p:yes", "p:no", "set", "outside", "problem"} <= set(found[0])
    bad = [i for i, row in enumerate(given) if not row["text"].strip()]
    assert [i for i, row in enumerate(found) if row["problem"]] == bad and len(bad) == 3
    assert all(found[i]["prediction"] == found[i]["p:yes"] == "" and "empty" in found[i]["problem"] for i in bad)
    fine = [row for row in found if not row["problem"]]
    assert all(row["prediction"] in row["set"].split("|") for row in fine)
    assert all(abs(float(row["p:yes"]) + float(row["p:no"]) - 1) < 1e-4 for row in fine)
    result = json.loads((tmp_path / "run" / "result.json").read_text())["predictions"]
    assert (result["rows"], result["answered"]) == (300, 297) and sum(result["answers"].values()) == 297
    assert not list((tmp_path / "run").glob(".predictions*"))


def test_the_same_rows_have_the_same_answers_as_from_python(typed, kept, tmp_path):
    import pandas

    from reprogram import from_pretrained

    path = table(tmp_path, 40, 2)
    code, stderr = predicted(typed, kept / "classes", path)
    assert code == 0, stderr
    model = from_pretrained(kept / "classes" / "program")
    frame = pandas.read_csv(path).set_index("id", drop=False)
    with_answers = model.predict_table(frame, "text")
    assert list(with_answers.columns[:3]) == ["text", "id", "note"] and list(with_answers.index) == list(frame.index)
    for told, row in zip(rows_of(tmp_path / "run" / "predictions.csv"), with_answers.to_dict("records"), strict=True):
        assert bool(told["problem"]) == bool(row["problem"])
        if not row["problem"]:
            assert told["prediction"] == row["prediction"] and abs(float(told["p:yes"]) - row["p:yes"]) < 1e-4


def test_values_have_intervals_that_hold(typed, kept, tmp_path):
    code, stderr = predicted(typed, kept / "values", kept / "train.csv", "task.confidence=0.8")
    assert code == 0, stderr
    found = rows_of(tmp_path / "run" / "predictions.csv")
    inside = [float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in found]
    assert np.mean(inside) >= 0.75
    assert all(float(row["low"]) < float(row["prediction"]) < float(row["high"]) for row in found)


def test_a_program_of_an_earlier_version_says_unknown(typed, kept, tmp_path):
    old = shutil.copytree(kept / "values", tmp_path / "old")
    path = old / "program" / "program.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "conformal"}))
    code, stderr = predicted(typed, old, table(tmp_path, 9, 1))
    assert code == 0, stderr
    fine = [row for row in rows_of(tmp_path / "run" / "predictions.csv") if not row["problem"]]
    assert {row["low"] for row in fine} == {row["high"] for row in fine} == {"unknown"}


@pytest.mark.parametrize("name", ["unlabelled.csv", "one_class.csv", "ids_and_notes.csv"])
def test_tables_that_no_training_could_use(typed, kept, tmp_path, name):
    column = next(iter(rows_of(CASES / name)[0]))
    columns = list(rows_of(CASES / name)[0])
    column = next(c for c in ("smiles", "SMILES", "text", column) if c in columns)
    code, stderr = typed(
        "task=predict", f"program={kept}/classes/program", "target=csv", f"target.path={CASES / name}",
        f"target.input_column={column}", "device=cpu",
    )  # fmt: skip
    assert code == 0, stderr
    found = rows_of(tmp_path / "run" / "predictions.csv")
    assert [row[column] for row in found] == [row[column].strip() for row in rows_of(CASES / name)]


def test_one_row(typed, kept, tmp_path):
    (tmp_path / "one.csv").write_text("text\ngood film\n")
    code, stderr = predicted(typed, kept / "classes", tmp_path / "one.csv")
    assert code == 0, stderr
    assert len(rows_of(tmp_path / "run" / "predictions.csv")) == 1


def test_a_run_that_was_killed_goes_on_to_the_identical_file(typed, kept, tmp_path):
    path = table(tmp_path, 3000, 30)
    arguments = [
        "task=predict", f"program={kept}/classes/program", "target=csv", f"target.path={path}",
        "target.input_column=text", "device=cpu", "task.chunk=50",
    ]  # fmt: skip
    code, stderr = typed(*arguments, folder="whole")
    assert code == 0, stderr
    script = Path(__file__).parents[2] / "train.py"
    run = subprocess.Popen([sys.executable, script, *arguments, f"run_dir={tmp_path / 'cut'}"], stderr=subprocess.DEVNULL)
    state = tmp_path / "cut" / ".predictions.state.json"
    until = time.monotonic() + 120
    while time.monotonic() < until and run.poll() is None:
        if state.exists() and json.loads(state.read_text())["counts"]["rows"] >= 500:
            break
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    done = json.loads(state.read_text())["counts"]["rows"]
    assert 500 <= done < 3000
    with (tmp_path / "cut" / ".predictions.csv").open("ab") as file:
        file.write(b"torn in the mid")
    code, stderr = typed(*arguments, "resume=true", folder="cut")
    assert code == 0, stderr
    assert (tmp_path / "cut" / "predictions.csv").read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()
    cost = json.loads((tmp_path / "cut" / "result.json").read_text())["cost"]
    assert cost["new_rows"] == 3000 - done


def test_other_inputs_do_not_go_on(typed, kept, tmp_path):
    from reprogram.errors import DataError
    from reprogram.prediction.stream import Counts, Growing, Lines

    growing = Growing(tmp_path, ["row"], "these", resume=False)
    growing.append(Lines("1\n", Counts(rows=1)))
    growing.close()
    with pytest.raises(DataError, match="has changed since"):
        Growing(tmp_path, ["row"], "others", resume=True)
    again = Growing(tmp_path, ["row"], "these", resume=True)
    assert again.counts.rows == 1
    again.close()


def pictures(folder, count=12):
    """Nested pictures, of which two cannot be read."""
    rng = np.random.default_rng(0)
    for i in range(count):
        place = folder / ("" if i % 3 else f"inner/{i % 2}")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9 + i, 12, 3), dtype=np.uint8)).save(place / f"{i:02}.png")
    (folder / "03b.png").write_bytes(b"no picture")
    (folder / "inner" / "empty.png").write_bytes(b"")
    return folder


def test_a_nested_folder_of_pictures(typed, tiny, tmp_path):
    code, stderr = typed(*tiny, folder="made")
    assert code == 0, stderr
    root = pictures(tmp_path / "new")
    where = ["target=image_folder", f"target.root={root}", "device=cpu", "task.chunk=4"]
    code, stderr = typed("task=predict", "program=made/program", *where)
    assert code == 0, stderr
    found = rows_of(tmp_path / "run" / "predictions.csv")
    assert {row["row"] for row in found} == {p.relative_to(root).as_posix() for p in root.rglob("*.png")}
    assert {row["row"] for row in found if row["problem"]} == {"03b.png", "inner/empty.png"}
    assert {row["prediction"] for row in found} <= {"dark", "light", ""}
    assert {row["outside"] for row in found if not row["problem"]} <= {"yes", "no"}


@pytest.mark.parametrize("ending", [".tsv", ".jsonl", ".parquet", ".xlsx"])
def test_other_formats(typed, kept, tmp_path, ending):
    if ending in (".parquet", ".xlsx"):
        pytest.importorskip("pyarrow" if ending == ".parquet" else "openpyxl")
    path = tmp_path / "new.csv"
    path.write_text("text,note\ngood,=1+1\n,b\nbad film,c\n")
    code, stderr = predicted(typed, kept / "values", path, f"task.out=out/mine{ending}")
    assert code == 0, stderr
    out = tmp_path / "out" / f"mine{ending}"
    if ending == ".parquet":
        import pyarrow.parquet as pq

        notes = pq.read_table(out).to_pydict()["note"]
        assert pq.read_table(out).to_pydict()["prediction"][1] is None
    elif ending == ".xlsx":
        from openpyxl import load_workbook

        head, *body = load_workbook(out).active.iter_rows(values_only=True)
        notes = [row[head.index("note")] for row in body]
        assert isinstance(body[0][head.index("prediction")], float) and body[1][head.index("prediction")] is None
    elif ending == ".jsonl":
        notes = [json.loads(line)["note"] for line in out.read_text().splitlines()]
    else:
        notes = [line.split("\t")[-1] for line in out.read_text().splitlines()[1:]]
    assert notes == ["=1+1", "b", "c"]


def test_molecules_as_sdf_keep_every_record(tmp_path):
    from rdkit import Chem

    from molecules.modality import Molecule

    rows = [{"row": "1", "smiles": "CCO", "p": 0.5}, {"row": "2", "smiles": "no", "p": None}]
    Molecule().writers("smiles")[".sdf"](tmp_path / "out.sdf", ["row", "smiles", "p"], iter(rows))
    found = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf")))
    assert [mol.GetNumAtoms() for mol in found] == [3, 0] and found[0].GetProp("p") == "0.5"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["program=auto"], "task=predict needs a kept program"),
        (["target=mnist"], "has no inputs without labels"),
        (["target=image_folder", "target.root=."], "reads|holds no pictures"),
        (["target.path=nowhere.csv"], "does not exist"),
        (["target.input_column=txet"], "did you mean 'text'"),
        (["task.out=mine.doc"], "must end in one of .csv, .tsv"),
        (["task.confidence=1.5"], "task.confidence"),
        (["target.path=picture.csv"], "does not exist"),
    ],
)
def test_mistakes_are_said(typed, kept, tmp_path, arguments, sentence):
    path = table(tmp_path, 9, 1)
    given = {a.partition("=")[0]: a for a in [
        f"program={kept}/classes/program", "target=csv", f"target.path={path}", "target.input_column=text", *arguments,
    ]}  # fmt: skip
    if not given["target"].endswith("csv"):
        given = {k: v for k, v in given.items() if k not in ("target.path", "target.input_column")}
    code, stderr = typed("task=predict", "device=cpu", *given.values())
    assert code == 2 and any(part in stderr for part in sentence.split("|")), stderr
