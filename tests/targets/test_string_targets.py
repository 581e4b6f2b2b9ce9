"""Tables of strings: what is read, what is left out and said, how it is split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprogram.errors import ConfigError, DataError
from reprogram.featurisers import Composition, KMers, TfIdf
from reprogram.targets.amp import amp
from reprogram.targets.csv import csv
from reprogram.targets.sequences_csv import sequences_csv
from reprogram.targets.splits import hold_out, identity, identity_clusters


@pytest.fixture
def table(tmp_path):
    def write(text: str, name: str = "t.csv") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def rows(*lines: str, header: str = "text,label") -> str:
    return "\n".join([header, *lines]) + "\n"


def two_classes(count: int = 20) -> list[str]:
    return [f"text {i},{'good' if i % 2 else 'bad'}" for i in range(count)]


def test_classes_few_labels_and_rows_of_the_file(table):
    task = csv(table(rows(*two_classes(40))), "text", "label", labels=8)
    assert task.info.problem == "classification" and task.info.classes == ("bad", "good")
    assert len(task.train) == 8 and np.bincount(task.train.labels).tolist() == [4, 4] and len(task.test) == 8
    assert task.train.strings[0] == f"text {task.train_rows[0] - 2}"  # the header is row 1
    assert not set(task.train.strings) & set(task.test.strings)
    again = csv(table(rows(*two_classes(40))), "text", "label", labels=8)
    assert again.train.strings == task.train.strings


def test_seed_draws_labels_and_split_seed_the_test(table):
    path = table(rows(*two_classes(60)))
    first, second = (csv(path, "text", "label", labels=8, seed=s) for s in (0, 1))
    assert first.test.strings == second.test.strings and first.train.strings != second.train.strings


@pytest.mark.parametrize(
    ("lines", "problem", "classes"),
    [
        (["0", "1", "1", "0"], "classification", ("0", "1")),
        (["1.0", "2", "10", "1"], "classification", ("1", "2", "10")),
        (["0.5", "1.25", "-3e2", "4"], "regression", ("label",)),
        (["yes", "no", "yes", "no"], "classification", ("no", "yes")),
    ],
)
def test_kind_of_label_is_seen(table, lines, problem, classes):
    task = csv(table(rows(*[f"t{i},{v}" for i, v in enumerate(lines * 5)])), "text", "label")
    assert (task.info.problem, task.info.classes) == (problem, classes)
    assert task.train.labels.ndim == (1 if problem == "classification" else 2)


def test_label_column_of_text_and_numbers_is_refused(table):
    with pytest.raises(DataError, match=r"mixes numbers and text: row 4 has 'n\.d\.x'"):
        csv(table(rows("a,0.5", "b,1.5", "c,n.d.x", "d,2.5")), "text", "label")
    lines = ["a,1", "b,x", "c,1", "d,x", "e,1", "f,x", "g,1", "h,x"]
    assert csv(table(rows(*lines)), "text", "label", problem="classification", test_size=2).info.classes == ("1", "x")


def test_multilabel_with_missing_answers(table):
    lines = [f"t{i},{i % 2},{'' if i % 3 else 1}" for i in range(20)]
    task = csv(table(rows(*lines, header="text,a,b")), "text", ["a", "b"], labels=10)
    assert task.info.problem == "multilabel" and task.info.classes == ("a", "b")
    assert np.isnan(task.train.labels[:, 1]).any() and not np.isnan(task.train.labels[:, 0]).any()
    with pytest.raises(DataError, match="row 2: '2' is not 0, 1 or empty"):
        csv(table(rows("t,2,1", header="text,a,b")), "text", ["a", "b"], problem="multilabel")


def test_bad_rows_are_left_out_and_named(table):
    lines = [*two_classes(20), ",good", "no label,", "one,two,three", "text 0,bad", "text 1,bad"]
    task = csv(table(rows(*lines)), "text", "label")
    notes = " ".join(task.notes)
    assert "1 row is empty: left out (row 22)" in notes
    assert "1 row has no label: left out (row 23)" in notes
    assert "number of columns" in notes and "row 24" in notes
    assert "1 row repeats an earlier one" in notes and "disagree on the class" in notes and "21" not in task.train.strings
    strings = {*task.train.strings, *task.test.strings}
    assert "text 0" in strings and "text 1" not in strings and len(strings) == 19


def test_repeated_values_are_averaged_and_repeated_answers_that_disagree_are_unknown(table):
    path = table(rows("a,1.5", "a,2.5", "b,0.25", "c,3.5", "d,9.5"))
    task = csv(path, "text", "label", test_size=1)
    known = dict(zip(task.train.strings + task.test.strings, [*task.train.labels[:, 0], *task.test.labels[:, 0]]))
    assert known == {"a": 2.0, "b": 0.25, "c": 3.5, "d": 9.5}
    path = table(rows("a,1,0", "a,0,0", "b,1,1", "c,0,1", "d,0,", header="text,x,y"))
    task = csv(path, "text", ["x", "y"], test_size=1)
    labels = dict(zip(task.train.strings + task.test.strings, [*task.train.labels, *task.test.labels]))
    assert np.isnan(labels["a"][0]) and labels["a"][1] == 0


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("", {}, "is empty"),
        ("text,label\n", {}, "has no rows"),
        ("text,text\na,b\n", {}, "'text' twice"),
        (rows("a,x", "b,x"), {}, "only the class 'x'"),
        (rows(*two_classes()), {"input_column": "txt"}, "did you mean 'text'"),
        (rows(*two_classes()), {"label_column": "y"}, "label_column=y"),
        (rows(*two_classes()), {"labels": 99}, "asks for more examples"),
        (rows(*two_classes()), {"labels": 0}, "at least 1"),
        (rows(*two_classes()), {"problem": "clasification"}, "did you mean"),
        (rows(*two_classes()), {"problem": "regression"}, "is not a finite number"),
        (rows(*two_classes()), {"test_size": 20}, "leaves nothing"),
        (rows(*two_classes()), {"delimiter": ";;"}, "one character"),
        (rows(",good", ",bad"), {}, "No row of"),
        (rows(*two_classes()), {"label_column": []}, "at least one column"),
    ],
)
def test_mistakes_end_in_one_sentence(table, content, arguments, message):
    with pytest.raises((ConfigError, DataError), match=message):
        csv(table(content), **({"input_column": "text", "label_column": "label"} | arguments))


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        csv(str(tmp_path / "no.csv"), "a", "b")
    (tmp_path / "bytes.csv").write_bytes(b"\x7fELF\x00\x01\x00\x00\x03")
    with pytest.raises(DataError, match="not a table of text"):
        csv(str(tmp_path / "bytes.csv"), "a", "b")


def test_the_same_string_in_train_and_test_is_refused(table):
    train, test = table(rows(*two_classes())), table(rows("text 3,good", "new,bad"), "test.csv")
    with pytest.raises(DataError, match=r"1 example is in both .* row 5 and row 2"):
        csv(train, "text", "label", test_path=test)
    task = csv(train, "text", "label", test_path=test, allow_overlap=True)
    assert len(task.train) == 20 and len(task.test) == 2 and "allow_overlap" in " ".join(task.notes)


def test_test_table_keeps_the_training_columns_of_classes(table):
    train = table(rows(*[f"t{i},{'abc'[i % 3]}" for i in range(12)]))
    task = csv(train, "text", "label", test_path=table(rows("x,c", "y,a"), "test.csv"))
    assert task.test.labels.tolist() == [2, 0]
    with pytest.raises(DataError, match="class 'z'"):
        csv(train, "text", "label", test_path=table(rows("x,z", "y,a"), "test.csv"))


def test_tabs_and_byte_order_mark(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("\ufefftext\tlabel\n" + "".join(f"a, {i}\t{i % 2}\n" for i in range(10)), encoding="utf-8")
    assert csv(str(path), "text", "label").info.classes == ("0", "1")


PEPTIDES = [
    "GLWSKIKEVG",
    "GLWSKIKEVA",
    "KKLLKKLLKK",
    "AAAAGGGGPP",
    "ACDEFGHIKL",
    "WYVTSRQPNM",
    "MKTAYIAKQR",
    "HHHHHHCCCC",
]


def test_sequences_are_checked_against_their_alphabet(table):
    lines = [f"{p},{i % 2}" for i, p in enumerate(PEPTIDES)] + ["glw skike xx,1", "GL1W,0", ",0"]
    task = sequences_csv(table(rows(*lines)), "text", "label")
    strings = {*task.train.strings, *task.test.strings}
    notes = " ".join(task.notes)
    assert "GLWSKIKEXX" in strings and "several meanings" in notes
    assert "no protein code, such as '1'" in notes and "row 11" in notes and "empty sequence" in notes
    with pytest.raises(ConfigError, match="alphabet=proteins"):
        sequences_csv(table(rows(*lines)), "text", "label", alphabet="proteins")
    with pytest.raises(DataError, match="no dna code"):
        sequences_csv(table(rows("EEEE,0", "FFFF,1")), "text", "label", alphabet="dna")


def test_identity_split_keeps_like_sequences_on_one_side(table):
    rng = np.random.default_rng(0)
    families = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 20)) for _ in range(12)]
    lines = [f"{f[:-1]}{tail},{i % 2}" for i, f in enumerate(families) for tail in "ACD"]
    task = sequences_csv(table(rows(*lines)), "text", "label", split="identity", identity_threshold=0.8)
    assert len(task.test) >= 3 and task.split["how"] == "identity"
    assert identity(task.test.strings, task.train.strings).max() < 0.8
    with pytest.raises(ConfigError, match="split=scaffold"):
        sequences_csv(table(rows(*lines)), "text", "label", split="scaffold")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=4, max_size=40), st.floats(0.1, 0.6), st.integers(0, 5))
def test_groups_never_straddle_the_split(groups, share, seed):
    try:
        train, test = hold_out(np.zeros(len(groups)), share, seed, groups)
    except (ConfigError, DataError):
        return
    assert sorted([*train, *test]) == list(range(len(groups)))
    assert not {groups[i] for i in train} & {groups[i] for i in test}
    assert 0 < len(test) <= max(1, round(share * len(groups)))


def test_identity_is_the_longest_common_subsequence():
    assert np.allclose(identity(["ACDE"], ["ACDE", "ADE", "WWWW", "EDCA"])[0], [1.0, 0.75, 0.0, 0.25])


def test_clusters_are_closed_under_likeness():
    """Trap: greedy clustering leaves pairs above the threshold in different clusters."""
    chain = ["AAAAAAAAAA", "AAAAAAAACC", "AAAAAACCCC", "WWWWWWWWWW"]
    assert len(set(identity_clusters(chain, 0.8)[:3])) == 1 and len(set(identity_clusters(chain, 0.8))) == 2


def test_bundled_peptides():
    task = amp(labels=16)
    assert len(task.train) == 16 and task.info.classes == ("AMP", "UniProt")
    assert task.split["available_for_training"] + len(task.test) == 4620
    assert any("22 groups" in note for note in task.notes)
    assert list(task.featurisers()) == ["composition", "kmers"]


def test_featurisers_by_hand():
    assert np.allclose(Composition("AC")(["AACA", ""]), [[15.0, 5.0, 0.2], [0, 0, 0]])
    row = KMers(k=2, width=64)(["AB"])[0]
    assert np.isclose(np.linalg.norm(row), 1) and (row > 0).sum() <= 3
    assert KMers()(["ACD"])[0].tolist() != KMers()(["DCA"])[0].tolist()
    words = TfIdf()
    words.fit(["good film", "bad film"])
    assert words(["good film"]).shape == (1, 5) and words(["nothing known"]).sum() == 0
