"""task=predict: inputs without labels in, every row back in its place, whatever happens on the way."""

import csv
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprogram.applicability.base import Applicability
from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.errors import DataError
from reprogram.hooks import Run
from reprogram.inputs.text import Text
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.result import Result
from reprogram.sources.text import TextSource
from reprogram.targets.csv import csv as table_target
from reprogram.tasks._run import keep_left_out
from reprogram.training.loop import Training

CASES = Path(__file__).parents[1] / "targets" / "cases"


def rows_of(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def kept(text_models, tmp_path_factory):
    """Two kept programs on a tiny random language model: of classes, and of values."""
    folder = tmp_path_factory.mktemp("kept")
    rng = np.random.default_rng(0)
    lines = ["text,topic,value"]
    for i in range(60):
        good = i % 2
        words = rng.permutation(["good", "the", "film"] if good else ["bad", "film", "a"])
        lines.append(f"{' '.join(words)} {'abcdefghij'[i % 10]},{'yes' if good else 'no'},{good + 0.01 * i:.3f}")
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    for name, label in (("classes", "topic"), ("values", "value")):
        task = table_target(str(folder / "train.csv"), "text", label, name=name)
        model = ReprogrammedModel(TextSource(text_models("bert")), Text(), RidgeTaps(), task.info)
        Training(epochs=0).fit(model, task.train, Run(folder / "run", 0, Result("reprogram", 0)))
        model.applicability = Applicability.of(model, task.train, task.train_rows)
        keep_left_out(model, task, 0)
        save_pretrained(model, folder / name / "program")
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


@pytest.mark.parametrize(
    ("name", "lines", "texts"),
    [
        ("new.tsv", "text\tid\ngood film\t7\nbad\t8\n", ["good film", "bad"]),
        ("new.fasta", ">one first\nGOOD\nFILM\n>two\nBAD\n", ["GOODFILM", "BAD"]),
        ("new.smi", "CCO ethanol\nCCN amine\n", ["CCO", "CCN"]),
    ],
)
def test_files_that_name_their_own_column_need_no_option(typed, kept, tmp_path, name, lines, texts):
    (tmp_path / name).write_text(lines)
    column = {"new.tsv": "text", "new.fasta": "sequence", "new.smi": "smiles"}[name]
    given = ["target.input_column=text"] if name == "new.tsv" else []
    code, stderr = typed(
        "task=predict", f"program={kept}/classes/program", "target=csv", f"target.path={name}", "device=cpu", *given
    )
    assert code == 0, stderr
    found = rows_of(tmp_path / "run" / "predictions.csv")
    assert [row[column] for row in found] == texts and all(row["prediction"] for row in found)


def test_one_row(typed, kept, tmp_path):
    (tmp_path / "one.csv").write_text("text\ngood film\n")
    code, stderr = predicted(typed, kept / "classes", tmp_path / "one.csv")
    assert code == 0, stderr
    assert len(rows_of(tmp_path / "run" / "predictions.csv")) == 1


def test_a_run_that_was_killed_goes_on_to_the_identical_file(typed, kept, tmp_path):
    path = table(tmp_path, 1500, 15)
    arguments = [
        "task=predict", f"program={kept}/classes/program", "target=csv", f"target.path={path}",
        "target.input_column=text", "device=cpu", "task.chunk=20",
    ]  # fmt: skip
    code, stderr = typed(*arguments, folder="whole")
    assert code == 0, stderr
    script = Path(__file__).parents[2] / "train.py"
    run = subprocess.Popen([sys.executable, script, *arguments, f"run_dir={tmp_path / 'cut'}"], stderr=subprocess.DEVNULL)
    state = tmp_path / "cut" / ".predictions.state.json"
    until = time.monotonic() + 120
    while time.monotonic() < until and run.poll() is None:
        if state.exists() and json.loads(state.read_text())["counts"]["rows"] >= 200:
            break
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    done = json.loads(state.read_text())["counts"]["rows"]
    assert 200 <= done < 1500
    with (tmp_path / "cut" / ".predictions.csv").open("ab") as file:
        file.write(b"torn in the mid")
    code, stderr = typed(*arguments, "resume=true", folder="cut")
    assert code == 0, stderr
    assert (tmp_path / "cut" / "predictions.csv").read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()
    cost = json.loads((tmp_path / "cut" / "result.json").read_text())["cost"]
    assert cost["new_rows"] == 1500 - done


def test_other_inputs_do_not_go_on(typed, kept, tmp_path):
    from reprogram.prediction.stream import Counts, Growing, Lines

    growing = Growing(tmp_path, ["row"], "these", resume=False)
    growing.append(Lines("1\n", Counts(rows=1)))
    growing.close()
    with pytest.raises(DataError, match="has changed since"):
        Growing(tmp_path, ["row"], "others", resume=True)
    again = Growing(tmp_path, ["row"], "these", resume=True)
    assert again.counts.rows == 1
    again.close()


def test_answers_of_many_classes_are_counted_right(tmp_path):
    from reprogram.prediction.stream import Counts, Growing, Lines

    growing = Growing(tmp_path, ["row"], "these", resume=False)
    for chunk in range(3):  # a class that is rare at first and the most frequent in the end
        growing.append(Lines("x\n", Counts(300, answers={f"class {i}": 2 if i != 299 or chunk else 1 for i in range(300)})))
        growing.append(Lines("x\n", Counts(chunk, answers={"class 299": chunk})))
    growing.close()
    again = Growing(tmp_path, ["row"], "these", resume=True)
    again.close()
    assert sum(again.counts.answers.values()) == 3 * 300 * 2 - 1 + 3
    assert list(again.counts.frequent().items())[:2] == [("class 299", 8), ("class 0", 6)]
    assert len(again.counts.frequent()) == 100


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
    os.rename(root / "01.png", os.fsencode(root) + b"/caf\xe9.png")  # a name of another encoding, as archives have them
    where = ["target=image_folder", f"target.root={root}", "device=cpu", "task.chunk=4"]
    code, stderr = typed("task=predict", "program=made/program", *where)
    assert code == 0, stderr
    found = rows_of(tmp_path / "run" / "predictions.csv")
    names = {p.relative_to(root).as_posix().replace("\udce9", r"\udce9") for p in root.rglob("*.png")}
    assert {row["row"] for row in found} == names and r"caf\udce9.png" in names
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


def test_another_format_can_be_had_of_what_is_finished(typed, kept, tmp_path, monkeypatch):
    path = table(tmp_path, 20, 2)
    (tmp_path / "file").write_text("")
    code, stderr = predicted(typed, kept / "classes", path, "task.out=file/x.jsonl")
    assert code == 2 and "file" in stderr, stderr
    monkeypatch.setattr("reprogram.tasks.predict.answer_chunk", None)  # nothing is asked once more
    code, stderr = predicted(typed, kept / "classes", path, "task.out=x.jsonl", "resume=true")
    assert code == 0 and len((tmp_path / "x.jsonl").read_text().splitlines()) == 20, stderr


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
        (["task.out=new.csv"], "task.out=new.csv is what is read"),
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


def test_evaluate_keeps_the_place_of_a_row_that_it_cannot_read(typed, kept, tmp_path):
    lines = (kept / "train.csv").read_text().splitlines()
    lines[8] = f"   ,{lines[8].split(',')[1]},0"
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
    code, stderr = typed(
        "task=evaluate", f"program={kept}/classes/program", "target=csv", "target.path=new.csv", "device=cpu",
        "target.input_column=text", "target.label_column=topic", "task.examples=all",
    )  # fmt: skip
    assert code == 0, stderr
    found = rows_of(tmp_path / "run" / "predictions.csv")
    assert [int(row["row"]) for row in found] == sorted(int(row["row"]) for row in found)
    assert [row["row"] for row in found if row["problem"]] == ["9"]  # the header is row 1
    bad = next(row for row in found if row["problem"])
    assert bad["prediction"] == "" and "empty" in bad["problem"] and bad["value"] == "0"


def test_from_python_a_bad_item_is_nan_and_a_table_keeps_its_rows(kept):
    import pandas

    model = from_pretrained(kept / "values" / "program")
    texts = ["good film", None, "", "bad", 3.5]
    table = pandas.DataFrame({"text": texts})
    for odd, sentence in ((table, "A table is no list"), (["good", None], "Input 1 is no string"), ([b"good"], "Input 0")):
        with pytest.raises(DataError, match=sentence):
            model.predict(odd)
    values = model.predict(texts, errors="nan")
    assert np.isnan(values).tolist() == [False, True, True, False, True]
    assert np.allclose(values[[0, 3]], model.predict(["good film", "bad"]), atol=1e-5)
    classes = from_pretrained(kept / "classes" / "program").predict(texts, errors="nan")
    assert np.isnan(classes).tolist() == [False, True, True, False, True]
    frame = pandas.DataFrame({"text": texts, "prediction": range(5)}, index=list("vwxyz"))
    found = model.predict_table(frame)
    assert list(found.index) == list("vwxyz") and list(found["prediction"]) == list(range(5))
    assert np.allclose(found["program:prediction"].astype(float), values, equal_nan=True, atol=1e-5)
    assert found["problem"].astype(bool).tolist() == [False, True, True, False, True]
    with pytest.raises(DataError, match="did you mean 'text'"):
        model.predict_table(frame, "txet")
    with pytest.raises(DataError, match="2 columns of this name"):
        model.predict_table(pandas.concat([frame, frame], axis=1), "text")


def test_an_estimator_answers_a_table_in_the_units_of_its_labels(tiny_source):
    import pandas

    from reprogram import ReprogrammedRegressor

    rng = np.random.default_rng(0)
    images = list(rng.random((60, 12, 12, 3)).astype(np.float32))
    values = np.array([image[..., 0].mean() * 4000 - 2000 for image in images])
    fitted = ReprogrammedRegressor(source=tiny_source(), training=Training(epochs=0)).fit(images, values)
    frame = pandas.DataFrame({"picture": [*images[:20], "nowhere.png"], "id": range(21)})
    found = pickle.loads(pickle.dumps(fitted)).predict_table(frame)
    assert np.allclose(found["prediction"][:20], fitted.predict(images[:20]), rtol=1e-4)
    held = (found["low"][:20] <= values[:20]) & (values[:20] <= found["high"][:20])
    assert held.mean() >= 0.8 and "nowhere.png" in found["problem"][20] and np.isnan(found["prediction"][20])


def test_two_workers_of_a_cluster_one_killed_give_the_same_file(typed, kept, tmp_path):
    distributed = pytest.importorskip("distributed")
    path = table(tmp_path, 600, 6)
    code, stderr = predicted(typed, kept / "classes", path, "task.chunk=20", "run_dir=alone")
    assert code == 0, stderr
    state, killed = tmp_path / "spread" / ".predictions.state.json", []

    def kill(pid):
        while not state.exists() or json.loads(state.read_text())["counts"]["rows"] < 100:
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        killed.append(json.loads(state.read_text())["counts"]["rows"])

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
            pids = sorted(client.run(os.getpid).values())
        thread = threading.Thread(target=kill, args=(pids[0],), daemon=True)
        thread.start()
        where = ["parallel.backend=dask", f"parallel.address={cluster.scheduler_address}"]
        code, stderr = predicted(typed, kept / "classes", path, "task.chunk=20", "run_dir=spread", *where)
        thread.join(10)
    assert code == 0, stderr
    assert killed and killed[0] < 600, "the worker was killed in mid-run"
    assert (tmp_path / "spread" / "predictions.csv").read_bytes() == (tmp_path / "alone" / "predictions.csv").read_bytes()
