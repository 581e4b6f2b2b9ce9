"""Inputs without labels beside a target, and labels from a list: what is learned from, what is tested, what is told."""

import numpy as np
import pytest
from PIL import Image

from reprogram.errors import ConfigError, DataError
from reprogram.targets import pool as pools
from reprogram.targets.csv import csv
from reprogram.targets.image_folder import image_folder


def picture(path, seed, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path):
    """A pool of 12 pictures of which two are test pictures, a list of labels, and a test folder by class."""
    for i in range(12):
        picture(tmp_path / "pool" / f"{i:02}.png", i)
    for i, name in enumerate("abab"):
        picture(tmp_path / "test" / name / f"{i}.png", 10 + i)
    labelled = "".join(f"{i:02}.png,{'ab'[i % 2]},x\n" for i in range(6))
    (tmp_path / "list.csv").write_text(f"input,label,why\n{labelled}06.png,,x\n07.png,?,x\n")
    return tmp_path


def target(folders, **options):
    return image_folder(str(folders / "pool"), labels_file=str(folders / "list.csv"), **options)


def read(pool):
    return sum(len(places) for places, _ in pool.batches())


def test_a_list_labels_and_the_rest_is_the_pool(folders):
    found = target(folders, test_root=str(folders / "test"), unlabelled=str(folders / "pool"))
    assert found.info.classes == ("a", "b") and len(found.train) == 6 and len(found.test) == 4
    assert sorted(found.train_rows) == [f"{i:02}.png" for i in range(6)]
    assert read(found.pool) == 10 and any("2 inputs without labels are test inputs too" in n for n in found.pool.told())
    batch = next(iter(found.pool.batches()))[1]
    assert batch.shape[1:] == found.train.batch([0]).shape[1:] and 0 <= float(batch.min()) <= float(batch.max()) <= 1


def test_without_a_test_folder_nothing_is_tested(folders):
    found = target(folders)
    assert len(found.test) == 0 and len(found.train) == 6 and found.split["kind"] == "none" and found.pool is None
    assert any(note.startswith("No test set") for note in found.notes)
    with pytest.raises(ConfigError, match="transductive"):
        target(folders, transductive=True)


def test_the_user_may_let_the_test_in(folders):
    found = target(folders, test_root=str(folders / "test"), transductive=True)
    assert read(found.pool) == 4 and found.pool.transductive
    both = target(folders, test_root=str(folders / "test"), unlabelled=str(folders / "pool"), transductive=True)
    assert read(both.pool) == 16


def test_a_class_that_is_tested_and_nobody_labelled_keeps_its_column(folders):
    picture(folders / "test" / "c" / "9.png", 99)
    found = target(folders, test_root=str(folders / "test"))
    assert found.info.classes == ("a", "b", "c") and any("No training image of: c" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input,label\n00.png,a\n01.png,a\n", "only the class 'a'"),
        ("input,label\nx.png,a\ny.png,b\n", "no label of a picture"),
        ("file,label\n00.png,a\n", "has no column 'input'"),
    ],
)
def test_lists_that_label_nothing_are_refused(folders, text, said):
    (folders / "list.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        target(folders)


def test_two_labels_of_one_input_are_no_label(folders):
    with (folders / "list.csv").open("a") as file:
        file.write("00.png,b,x\n01.png,B,x\n")
    found = target(folders)
    assert "00.png" not in found.train_rows and "01.png" in found.train_rows and any("two labels" in note for note in found.notes)


def test_a_few_labels_of_many_classes_are_no_mistake(folders):
    (folders / "list.csv").write_text("input,label\n" + "".join(f"{i:02}.png,{i % 9}\n" for i in range(12)))
    assert target(folders).info.classes == tuple("012345678")


def test_a_class_that_may_be_a_slip_is_told(folders):
    labels = ["cat", "dog", "cat", "dog", "cta", "fox"]
    (folders / "list.csv").write_text("input,label\n" + "".join(f"{i:02}.png,{c}\n" for i, c in enumerate(labels)))
    assert "Classes of one label that may be slips: 'cta' (row 6), rather 'cat'?" in target(folders).notes


def test_a_text_that_is_no_name_is_an_input_that_is_not_there(folders):
    with (folders / "list.csv").open("a") as file:
        file.write(f"{'long ' * 100},a,x\n")
    assert any(note.startswith("1 label is of an input that is not there") for note in target(folders).notes)


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "pool.csv").write_text("text\n" + "".join(f"words {i}\n" for i in range(20)) + "\n")
    (tmp_path / "list.csv").write_text("input,label\n" + "".join(f"words {i},{['no', 'yes'][i % 2]}\n" for i in range(8)))
    (tmp_path / "test.csv").write_text("text,topic\nwords 18,no\nwords 30,yes\n")
    return tmp_path


def strings(tables, **options):
    given = {"labels_file": str(tables / "list.csv"), "unlabelled": str(tables / "pool.csv")}
    return csv(str(tables / "pool.csv"), "text", "topic", **given, **options)


def test_tables_likewise(tables):
    found = strings(tables)
    assert len(found.train) == 8 and len(found.test) == 0 and len(found.pool) == 20
    tested = strings(tables, test_path=str(tables / "test.csv"))
    assert len(tested.test) == 2 and "words 18" not in tested.pool.contents and len(tested.pool) == 19
    seen = strings(tables, test_path=str(tables / "test.csv"), transductive=True)
    assert {"words 18", "words 30"} <= set(seen.pool.contents)


def test_large_pools_are_thinned_and_keep_what_is_labelled(tables, monkeypatch):
    monkeypatch.setattr(pools, "MOST", 5)
    found = pools.gather(csv.inputs(str(tables / "pool.csv"), "text"), wanted=["words 7"])
    assert len(found) <= 6 and "words 7" in found.contents and any("evenly" in note for note in found.notes)
