"""Hugging Face datasets as targets, made in memory and saved to disk."""

import datasets
import numpy as np
import pytest
from PIL import Image

from reprogram.errors import ConfigError, DataError
from reprogram.interfaces import TargetTask
from reprogram.targets.huggingface import huggingface


def pictures(count, classes=("cat", "dog"), seed=0):
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)) for _ in range(count)]
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(classes)))
    return datasets.Dataset.from_dict({"image": images, "label": [i % 2 for i in range(count)]}, features)


@pytest.fixture(scope="module")
def image_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pets"
    datasets.DatasetDict(train=pictures(20), test=pictures(6, seed=1)).save_to_disk(folder)
    return str(folder)


def text_set(folder, **columns):
    datasets.Dataset.from_dict(columns).save_to_disk(folder)
    return str(folder)


def test_images_with_class_labels(image_set):
    task = huggingface(image_set, shots=4)
    assert task.info.name == "pets" and task.info.classes == ("cat", "dog") and task.info.input_shape == (3, 8, 8)
    assert len(task.train) == 8 and len(task.test) == 6 and task.split["kind"] == "given"
    table = datasets.load_from_disk(image_set)["train"]
    row = task.train_rows[0]
    np.testing.assert_allclose(
        task.train.batch([0])[0].numpy(), np.asarray(table[row]["image"]).transpose(2, 0, 1) / 255
    )
    assert table[row]["label"] == task.train.labels[0]


def test_the_white_of_deep_pictures_is_kept_with_the_target(tmp_path):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 4000, (8, 8), dtype=np.uint16)) for _ in range(20)]
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    datasets.Dataset.from_dict({"image": images, "label": [i % 2 for i in range(20)]}, features).save_to_disk(tmp_path / "x")
    task = huggingface(str(tmp_path / "x"), test_split=None, shots=4)
    assert task.info.white == 4095


def test_a_split_is_held_out_where_there_is_none(image_set):
    task = huggingface(image_set, test_split=None, shots=None)
    assert len(task.test) == 4 and len(task.train) == 16 and not set(task.test_rows) & set(task.train_rows)


def test_texts_with_named_labels(tmp_path):
    texts = [f"text {i}" for i in range(20)]
    folder = text_set(tmp_path / "topics", text=texts, label=["b", "a"] * 10)
    task = huggingface(folder, labels=6)
    assert task.info.kind == "text" and task.info.classes == ("a", "b") and type(task) is TargetTask
    for row, label, text in zip(task.train_rows, task.train.labels, task.train.batch(range(6)), strict=True):
        assert text == texts[row] and label == (row + 1) % 2


def test_rows_without_label_or_text_are_counted_and_skipped(tmp_path):
    texts = [f"text {i}" for i in range(60)]
    texts[7] = None
    folder = text_set(tmp_path / "topics", text=texts, label=["b", "a", None, "a", "b", "a"] * 10)
    task = huggingface(folder, shots=None, test_size=10)
    assert len(task.train) + len(task.test) == 49
    assert task.notes[0] == f"10 rows of {folder} have no label and were skipped, the first is 2."
    assert "row 7 (it is not a text)" in task.notes[1]


def test_damaged_images_are_counted_and_skipped(tmp_path):
    table = pictures(30).cast_column("image", datasets.Image(decode=False)).to_dict()
    table["image"][3]["bytes"] = b"broken"
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    datasets.Dataset.from_dict(table, features).save_to_disk(tmp_path / "pets")
    task = huggingface(str(tmp_path / "pets"), shots=None)
    assert len(task.train) + len(task.test) == 29 and "row 3 (it is not an image)" in task.notes[0]


def test_a_csv_file_on_disk_is_a_dataset_too(tmp_path):
    lines = "\n".join(f"sentence {i},{'xy'[i % 2]}" for i in range(12))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text(f"text,topic\n{lines}\n")
    task = huggingface(str(tmp_path / "data"), input_column="text", label_column="topic", shots=2)
    assert task.info.classes == ("x", "y") and len(task.train) == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"label_column": "lable"}, "target.label_column=lable is not a column .* did you mean 'label'"),
        ({"input_column": "picture"}, "target.input_column=picture is not a column"),
        ({"train_split": "trian"}, "target.train_split=trian is not in .* did you mean 'train'"),
    ],
)
def test_a_mistake_gets_one_sentence(image_set, options, sentence):
    with pytest.raises(DataError, match=sentence):
        huggingface(image_set, **options)


def test_columns_that_cannot_be_guessed(tmp_path):
    folder = text_set(tmp_path / "x", first=["a", "b"], second=["c", "d"], topic=["t", "u"])
    with pytest.raises(ConfigError, match=r"target.input_column must say which column of .*: first, second, topic"):
        huggingface(folder, label_column="topic")
    with pytest.raises(ConfigError, match=r"target.label_column must say which column"):
        huggingface(folder, input_column="first")


def test_a_dataset_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        huggingface(str(tmp_path / "nowhere"))


def test_labels_that_are_no_classes(tmp_path):
    folder = text_set(tmp_path / "x", text=["a", "b"], label=[0.5, 1.5])
    with pytest.raises(DataError, match=r"target.label_column=label of .* does not hold classes"):
        huggingface(folder)
