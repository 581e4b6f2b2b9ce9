"""Table files of users: encodings, delimiters, formats, units, bounds, conflicts. Read right, or a sentence of what to type."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molecules.targets import molecules_csv
from reprogram.errors import ConfigError, DataError
from reprogram.targets.censored import beyond, estimate_beyond
from reprogram.targets.csv import csv
from reprogram.targets.sequences_csv import sequences_csv
from reprogram.targets.tables import TableOptions, read_table, rows
from reprogram.targets.tables.numbers import Number, read_number
from reprogram.targets.unlabelled import chunks, open_inputs

CASES = Path(__file__).parent / "cases"


def notes_of(name: str, label: str, **options: object) -> tuple[object, str]:
    task = molecules_csv(str(CASES / name), "smiles", label, **options)
    return task, " ".join(task.notes)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("semicolon.csv", "separated by semicolons"),
        ("tab.txt", "separated by tabs"),
        ("utf16.csv", "is UTF-16 text"),
        ("latin1.csv", "was read as cp1252"),
        ("ids_and_notes.csv", ""),
    ],
)
def test_files_of_spreadsheets_are_read_as_they_come(name, note):
    task, notes = notes_of(name, "p_np")
    assert task.info.classes == ("0", "1") and len(task.train) + len(task.test) > 20 and note in notes
    assert all(i.startswith("M-") for i in task.test_columns["id"])


def test_accents_survive():
    task, _ = notes_of("latin1.csv", "p_np")
    assert set(task.test_columns["café"]) == {"µM é"}


def test_units_are_refused_by_name_or_read():
    with pytest.raises(
        DataError, match=r"several units: (mM|uM) \(\d+ rows\), (mM|uM) \(\d+ rows\); bring them to one unit, or drop"
    ):
        notes_of("units.csv", "solubility")


def test_one_unit_in_all_rows_is_read_and_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,y\n" + "".join(f"t{i},{i / 7:.3f} mM\n" for i in range(20)))
    task = csv(str(path), "text", "y")
    assert task.info.problem == "regression" and "all values are in mM" in " ".join(task.notes)


def test_decimal_commas_are_found_or_given():
    found, notes = notes_of("decimal_comma.csv", "log_solubility")
    assert found.info.problem == "regression" and "target.decimal=," in notes
    given, quiet = notes_of("decimal_comma.csv", "log_solubility", decimal=",", delimiter=";")
    np.testing.assert_array_equal(found.train.labels, given.train.labels)
    assert "decimal" not in quiet and found.train.labels.min() < -3


def test_a_comma_of_two_meanings_must_be_told(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text;y\n" + "".join(f"t{i};{i},{100 + i}\n" for i in range(1, 40)))
    with pytest.raises(DataError, match=r"'1,101' can be read in two ways; give target.decimal=,"):
        csv(str(path), "text", "y")
    assert csv(str(path), "text", "y", decimal=",").train.labels.max() < 40
    assert csv(str(path), "text", "y", decimal=".").train.labels.max() > 1000


def test_yes_and_no_in_seven_spellings_are_two_classes():
    task, notes = notes_of("yes_no.csv", "crosses")
    assert (
        len(task.info.classes) == 2
        and "Y, YES, Yes, yes are the class" in notes
        and "target.ignore_case=false" in notes
    )
    apart, _ = notes_of("yes_no.csv", "crosses", ignore_case=False, problem="classification")
    assert len(apart.info.classes) == 7


@pytest.mark.parametrize("pair", [("n", "Y"), ("false", "True"), ("no", "YES"), ("0", "1")])
def test_yes_is_the_second_class_however_it_is_written(tmp_path, pair):
    (tmp_path / "t.csv").write_text("text,y\n" + "".join(f"t{i},{pair[i % 2]}\n" for i in range(20)))
    assert csv(str(tmp_path / "t.csv"), "text", "y").info.classes == pair


def test_a_test_table_may_spell_its_classes_otherwise(tmp_path):
    (tmp_path / "train.csv").write_text("text,y\n" + "".join(f"t{i},{'Yes' if i % 2 else 'No'}\n" for i in range(20)))
    (tmp_path / "test.csv").write_text("text,y\na,y\nb,NO\n")
    task = csv(str(tmp_path / "train.csv"), "text", "y", test_path=str(tmp_path / "test.csv"))
    assert [task.info.classes[i] for i in task.test.labels] == ["Yes", "No"]
    (tmp_path / "test.csv").write_text("text,y\nc,maybe\n")
    with pytest.raises(DataError, match=r"class 'maybe' \(row 2 .*not in its column 'y'"):
        csv(str(tmp_path / "train.csv"), "text", "y", test_path=str(tmp_path / "test.csv"))


@pytest.mark.parametrize(
    ("name", "sentence"), [("unlabelled.csv", "no such column"), ("one_class.csv", "only the class '1'")]
)
def test_tables_without_anything_to_learn_point_to_prediction(name, sentence):
    with pytest.raises(DataError, match=f"{sentence}.*task=predict"):
        notes_of(name, "p_np")


def test_nearly_one_class_a_row_is_an_error_with_a_hint(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,y\n" + "".join(f"t{i},name {i}\n" for i in range(20)))
    with pytest.raises(DataError, match="20 different values in 20 rows, nearly one class a row, such as 'name 0'"):
        csv(str(path), "text", "y")
    path.write_text("text,y\n" + "".join(f"t{i},{i}.5\n" for i in range(20)))
    with pytest.raises(DataError, match=r"these are numbers: give target.problem=regression"):
        csv(str(path), "text", "y", problem="classification")


def test_classes_with_numbers_in_them_stay_classes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,y\n" + "".join(f"t{i},{5 + 5 * (i % 2)} mg\n" for i in range(20)))
    assert csv(str(path), "text", "y").info.classes == ("10 mg", "5 mg")
    path.write_text("text,y\n" + "".join(f"t{i},{'+-'[i % 2]}\n" for i in range(20)))
    assert csv(str(path), "text", "y").info.classes == ("+", "-")


def test_one_unreadable_value_does_not_end_a_run(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,y\n" + "".join(f"t{i},{i / 3:.4f}\n" for i in range(60)) + "bad,failed\nalso,n.d.\n")
    task = csv(str(path), "text", "y")
    notes = " ".join(task.notes)
    assert task.info.problem == "regression" and len(task.train) + len(task.test) == 60
    assert "1 row has no number in 'y', such as 'failed'" in notes and "(row 62)" in notes and "'n.d.' (1)" in notes


def test_bounds_must_be_decided_on():
    with pytest.raises(
        DataError, match=r"bounds among its values, such as '<-4.5'.*target.censored=drop.*bound.*value"
    ):
        notes_of("censored.csv", "log_solubility")
    dropped, said = notes_of("censored.csv", "log_solubility", censored="drop")
    assert "left out (target.censored=drop)" in said and dropped.train.labels.min() >= -4.5
    value, _ = notes_of("censored.csv", "log_solubility", censored="value")
    assert len(value.train) > len(dropped.train) and value.train.labels.min() == -4.5


def test_bounds_are_trained_on_beyond_them_and_never_tested_on():
    task, notes = notes_of("censored.csv", "log_solubility", censored="bound")
    assert "held-out rows are bounds and are not tested on" in notes
    assert (task.test.labels >= -4.5).all() and task.train.labels.min() < -4.5
    written = {
        r: t
        for r, t in zip(
            read_table(CASES / "censored.csv").rows, read_table(CASES / "censored.csv").columns["log_solubility"]
        )
    }
    for row, value in zip(task.train_rows, task.train.labels[:, 0]):
        assert value <= -4.5 if written[row].startswith("<") else value == float(written[row])


def test_of_several_bounds_the_tightest_and_a_value_before_any():
    from reprogram.targets.merging import merge
    from reprogram.targets.tables import Labels

    values = np.array([[-4.0], [-5.0], [9.0], [7.0], [-2.0], [1.5], [-3.0], [3.0]])
    sides = np.array([[-1], [-1], [1], [1], [-1], [0], [-1], [1]], dtype=np.int8)
    labels = Labels("regression", ("y",), values, np.zeros(8, dtype=bool), sides)
    kept, left, _ = merge(list("aabbccdd"), labels, list(range(2, 10)), "auto")
    assert kept == [0, 2, 4] and left.values[:, 0].tolist() == [-5.0, 9.0, 1.5]
    assert left.sides is not None and left.sides[:, 0].tolist() == [-1, 1, 0]  # d: bounds on both sides say nothing


def test_estimates_beyond_a_bound_are_nearer_to_the_truth_than_the_bound():
    rng = np.random.default_rng(0)
    texts = [f"{i}" for i in range(120)]
    features = rng.normal(size=(120, 5))

    class Known:
        def fit(self, inputs): ...
        def __call__(self, batch):
            return features

    truth = features @ np.array([2.0, -1.0, 0.5, 0, 0]) + 0.2 * rng.normal(size=120)
    for side in (-1, 1):
        bound = side * 1.0
        hidden = side * truth > side * bound
        values = np.where(hidden, bound, truth)[:, None]
        found = estimate_beyond(values, (side * hidden).astype(np.int8)[:, None], texts, [Known()])[:, 0]
        assert (side * found[hidden] >= side * bound).all() and (found[~hidden] == truth[~hidden]).all()
        assert np.abs(found - truth)[hidden].mean() < 0.4 * np.abs(bound - truth)[hidden].mean()


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(0.01, 10), st.sampled_from([-1, 1]))
def test_expected_values_lie_beyond_their_bound(bound, mean, spread, side):
    value = beyond(np.array([bound]), np.array([side]), np.array([mean]), spread)[0]
    assert np.isfinite(value) and side * value >= side * bound


def test_the_same_molecule_with_values_far_apart_is_named():
    task, notes = notes_of("conflicts.csv", "log_solubility")
    assert "rows 2 (0.61) and 42 (8.61)" in notes and "left out (target.conflicts=auto)" in notes
    assert not {2, 42} & {*task.train_rows, *task.test_rows}
    task, notes = notes_of("conflicts.csv", "log_solubility", conflicts="mean")
    known = dict(zip([*task.train_rows, *task.test_rows], [*task.train.labels[:, 0], *task.test.labels[:, 0]]))
    assert known[2] == pytest.approx(4.61) and "averaged" in notes
    task, _ = notes_of("conflicts.csv", "log_solubility", conflicts="first")
    known = dict(zip([*task.train_rows, *task.test_rows], [*task.train.labels[:, 0], *task.test.labels[:, 0]]))
    assert known[2] == pytest.approx(0.61)
    with pytest.raises(DataError, match=r"rows 2 \(0.61\) and 42 \(8.61\).*correct them"):
        notes_of("conflicts.csv", "log_solubility", conflicts="error")


def test_values_near_each_other_are_averaged_and_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,y\n" + "".join(f"t{i},{i}.25\n" for i in range(40)) + "t3,3.5\n")
    assert "1 input has several values, at most 0.25 apart: averaged" in " ".join(csv(str(path), "text", "y").notes)


def test_ids_and_notes_reach_the_predictions(tmp_path):
    from reprogram.report.predictions import write_predictions

    task, _ = notes_of("ids_and_notes.csv", "p_np")
    assert list(task.test_columns) == ["id", "smiles", "batch", "comment"]
    table = read_table(CASES / "ids_and_notes.csv")
    for row, name, comment in zip(task.test_rows, task.test_columns["id"], task.test_columns["comment"]):
        at = table.rows.index(row)
        assert (name, comment) == (table.columns["id"][at], table.columns["comment"][at])
    scores = np.full((len(task.test), 2), 0.5)
    written = read_table(write_predictions(tmp_path, task, scores))
    assert written.columns["id"] == list(task.test_columns["id"])
    assert [" ".join(c.split()) for c in written.columns["comment"]] == [
        " ".join(c.split()) for c in task.test_columns["comment"]
    ]


def test_a_column_of_the_user_never_hides_one_of_ours(tmp_path):
    from reprogram.report.predictions import write_predictions

    path = tmp_path / "t.csv"
    path.write_text("row,text,y,file:row\n" + "".join(f"r{i},t{i},{i % 2},\n" for i in range(20)))
    task = csv(str(path), "text", "y", id_column="row")
    header = write_predictions(tmp_path, task, np.full((len(task.test), 2), 0.5)).read_text().splitlines()[0]
    assert header == "row,label,prediction,p:0,p:1,file:file:row,text,file:row"


def write(kind: str, folder: Path) -> Path:
    """The same three molecules in every format; returns the file."""
    data = [("a1", "CCO", 0.5), ("a2", "c1ccccc1", 1.5), ("a3", "CCN", 2.5)]
    path = folder / f"t.{kind}"
    if kind == "xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        for row in [("id", "smiles", "y"), *data]:
            book.active.append(row)
        book.save(path)
    elif kind == "parquet":
        import pyarrow as arrow
        from pyarrow import parquet

        names, columns = ("id", "smiles", "y"), zip(*data)
        parquet.write_table(arrow.table(dict(zip(names, map(list, columns)))), path)
    elif kind == "sdf":
        from rdkit import Chem

        writer = Chem.SDWriter(str(path))
        for name, smiles, value in data:
            mol = Chem.MolFromSmiles(smiles)
            mol.SetProp("_Name", name)
            mol.SetProp("y", str(value))
            writer.write(mol)
        writer.close()
    elif kind == "smi":
        path.write_text("".join(f"{smiles} {name}\n" for name, smiles, _ in data))
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(b"id,smiles,y\n" + b"".join(f"{i},{s},{v}\n".encode() for i, s, v in data)))
    else:
        separator = {"tsv": "\t", "txt": "|", "csv": ";"}[kind]
        path.write_text(
            "\n".join([separator.join(["id", "smiles", "y"]), *(separator.join(map(str, d)) for d in data)]) + "\n"
        )
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "csv.gz", "xlsx", "parquet", "sdf", "smi"])
def test_every_format_gives_the_same_molecules(tmp_path, kind):
    path = write(kind, tmp_path)
    column = "structure" if kind == "sdf" else "smiles"
    found = list(molecules_csv.inputs(str(path), column))
    assert [i.content for i in found] == ["CCO", "c1ccccc1", "CCN"] and not any(i.problem for i in found)
    names = [i.columns.get("id") or i.columns["name"] for i in found]
    assert names == ["a1", "a2", "a3"]
    first = 1 if kind in ("sdf", "smi", "parquet") else 2  # files with a header line count it
    assert [i.row for i in found] == [first, first + 1, first + 2]
    if kind != "smi":
        assert [float(i.columns["y"]) for i in found] == [0.5, 1.5, 2.5]


def test_fasta(tmp_path):
    (tmp_path / "p.fasta").write_text(">p1 a toxin\nGLWS\nKIKE\n>p2\nMKTA\n")
    found = list(sequences_csv.inputs(str(tmp_path / "p.fasta"), "sequence"))
    assert [i.content for i in found] == ["GLWSKIKE", "MKTA"] and found[0].columns["description"] == "a toxin"


def test_rows_without_labels_keep_their_place_and_their_reason():
    inputs = molecules_csv.inputs(str(CASES / "unlabelled.csv"), "smiles", labels=64, test_size=0.5)
    found = list(inputs)
    lines = (CASES / "unlabelled.csv").read_text().splitlines()
    assert [i.row for i in found] == list(range(2, len(lines) + 1))
    assert [i.columns["id"] for i in found] == [line.split(",")[0] for line in lines[1:]]
    bad = {i.columns["id"]: i.problem for i in found if i.problem}
    assert bad == {"M-bad": "has a SMILES that RDKit cannot parse", "M-empty": "has an empty SMILES"}
    assert all((i.content is None) == bool(i.problem) for i in found)
    pieces = list(chunks(inputs, 20))
    assert [i for piece in pieces for i in piece] == found and next(chunks(inputs, 20, skip=40)) == found[40:60]


def test_inputs_of_a_configuration(tmp_path):
    config = {
        "_target_": "molecules.targets.molecules_csv",
        "path": str(CASES / "one_class.csv"),
        "input_column": "smiles",
    }
    assert len(list(open_inputs(config | {"label_column": "???", "salts": "strip"}))) == 40
    with pytest.raises(ConfigError, match=r"target.path must be given"):
        open_inputs(config | {"path": "???"})
    with pytest.raises(ConfigError, match="no inputs without labels"):
        open_inputs({"_target_": "reprogram.targets.digits.digits"})
    with pytest.raises(DataError, match=r"target.input_column=smile.*did you mean 'smiles'"):
        open_inputs(config | {"input_column": "smile"})


def test_a_row_of_another_width_keeps_its_place(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,text\n1,a\n2,b,c\n3\n\n5,e\n")
    found = list(csv.inputs(str(path), "text"))
    assert [(i.row, bool(i.problem)) for i in found] == [(2, False), (3, True), (4, True), (6, False)]


def test_a_long_table_is_streamed_in_constant_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "t.csv"

    def peak(count: int) -> int:
        path.write_text("id,text\n" + "".join(f"{i},some words of row {i}\n" for i in range(count)))
        tracemalloc.start()
        assert sum(1 for _ in csv.inputs(str(path), "text")) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100)
    assert peak(30_000) < peak(3_000) + (2 << 20)


def test_what_is_given_goes_before_what_is_found(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("a|b\nж|1\n".encode("cp1251"))
    found = rows(path, TableOptions(encoding="cp1251", delimiter="|"))
    assert found.header == ["a", "b"] and next(iter(found)).cells == {"a": "ж", "b": "1"} and not found.notes


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (b"a,b\n\xff,1\n", {"encoding": "utf-8"}, "is not utf-8 text below row"),
        (b"a,b\n1,2\n", {"encoding": "utf-9"}, "target.encoding=utf-9 is no text encoding"),
        (b"a,b\n1,2\n", {"decimal": ";"}, "target.decimal=; is not known"),
        (b"a,b\n1,2\n", {"decimal": ",", "delimiter": ","}, "cannot both be"),
        (b"a,b\n1,2\n", {"censored": "bounds"}, "target.censored=bounds is not known; did you mean 'bound'"),
        (b"a,b\n1,2\n", {"conflicts": "average"}, "target.conflicts=average is not known"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, "old Excel file; save it as .xlsx"),
        (b"PK\x03\x04 broken", {}, "cannot be read as an .xlsx workbook"),
        (b"PAR1 broken", {}, "cannot be read as a Parquet file"),
        (b"\x1f\x8b\x08 broken", {}, "cannot be read"),
        (gzip.compress(b"a,b\n" + bytes(range(32, 127)) * 99, mtime=0)[:-20], {}, "cannot be read"),
        (b"a,a\n1,2\n", {}, "column 'a' twice"),
        (b"\x7fELF\x00\x00\x01\x00\x01", {}, "not a table of text"),
        (b'a,b\n"' + b"x\n" * 2000, {}, "quotation mark in it is not closed"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, content, options, sentence):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises((ConfigError, DataError), match=sentence) as caught:
        read_table(tmp_path / "t.csv", options=TableOptions(**options))
    assert "\n" not in str(caught.value)


def test_special_files_are_refused_without_waiting(tmp_path):
    import os

    os.mkfifo(tmp_path / "t.csv")
    for path in (tmp_path / "t.csv", tmp_path, Path("/dev/zero")):
        with pytest.raises(DataError, match=r"no regular file|is a folder"):
            rows(path)


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [
        ("<-4,5 mM", ",", Number(-4.5, -1, "mM")),
        ("≥ 12", ".", Number(12.0, 1)),
        ("1,234.5", ".", Number(1234.5)),
        ("1.234,5", ",", Number(1234.5)),
        ("4.07e+03 mM", ".", Number(4070.0, 0, "mM")),
        ("\u22123.5", ".", Number(-3.5)),
        ("12 %", ".", Number(12.0, 0, "%")),
        ("0.5µg/mL", ".", Number(0.5, 0, "µg/mL")),
        ("1 234", ".", Number(1234.0)),
        ("2024-05-01", ".", Number(None)),
        ("1/2", ".", Number(None)),
        ("1,5", ".", Number(None)),
        ("0,002", ".", Number(None)),
        ("0,002", ",", Number(0.002)),
        ("1e999", ".", Number(None)),
        ("n.d.", ".", Number(None)),
    ],
)
def test_numbers_as_people_write_them(text, decimal, number):
    assert read_number(text, decimal) == number


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6).map(lambda v: round(v, 4)), min_size=5, max_size=30))
def test_decimal_commas_read_like_points(values):
    point = [read_number(f"{v}", ".").value for v in values]
    assert point == [read_number(f"{v}".replace(".", ","), ",").value for v in values] == values


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x00", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=12),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
)
def test_what_a_spreadsheet_writes_is_read_back(tmp_path_factory, records, delimiter, encoding):
    import csv as files
    import io

    text = io.StringIO()
    writer = files.writer(text, delimiter=delimiter, quoting=files.QUOTE_ALL)
    writer.writerows([("first column", "second column"), *records])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    found = rows(path, wanted=["first column"])
    assert [tuple(row.cells.values()) for row in found] == records and found.header == ["first column", "second column"]


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([".csv", ".tsv", ".txt", ".smi", ".sdf", ".fasta", ".xlsx", ".parquet", ".csv.gz"]),
)
def test_fuzz_any_bytes_are_rows_or_a_sentence(tmp_path_factory, content, ending):
    path = tmp_path_factory.mktemp("t") / f"t{ending}"
    path.write_bytes(content)
    try:
        list(rows(path))
    except (ConfigError, DataError) as error:
        assert "\n" not in str(error)[:500]


def test_an_accent_in_one_letter_or_two_is_one_class(tmp_path):
    path = tmp_path / "towns.csv"
    names = ["Gen\u00e8ve", "Gene\u0300ve", "Basel"]  # as Windows and as macOS write it
    path.write_text("text,town\n" + "".join(f"word {i},{names[i % 3]}\n" for i in range(30)), encoding="utf-8")
    for ignore_case in (True, False):
        assert len(csv(str(path), "text", "town", ignore_case=ignore_case).info.classes) == 2


def test_whole_numbers_are_values_to_a_program_of_values(tmp_path):
    from omegaconf import OmegaConf

    from reprogram.interfaces import TargetInfo
    from reprogram.tasks._run import whole_target

    path = tmp_path / "doses.csv"
    path.write_text("text,dose\n" + "".join(f"word {i},{i % 5}\n" for i in range(30)))
    target = {"_target_": "reprogram.targets.csv.csv", "path": str(path), "input_column": "text", "label_column": "dose"}
    config = OmegaConf.create({"target": target | {"problem": "auto", "shots": 2}})
    assert whole_target(config).info.problem == "classification"
    assert whole_target(config, TargetInfo("p", "text", "regression", ("dose",))).info.problem == "regression"


@pytest.mark.parametrize(("of_input", "of_label"), [("town", "town"), ("town", ["a", "town"]), ("text", ["a", "a"])])
def test_a_column_is_read_once(tmp_path, of_input, of_label):
    path = tmp_path / "t.csv"
    path.write_text("text,town,a\n" + "".join(f"word {i},{i % 2},{i % 3}\n" for i in range(12)))
    with pytest.raises(ConfigError, match="is named twice"):
        csv(str(path), of_input, of_label)


def test_a_question_ends_a_sentence():
    with pytest.raises(ConfigError, match=r"did you mean 'drop'\?$"):
        TableOptions(conflicts="dropp")
