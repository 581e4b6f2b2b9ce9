"""Images in class folders: splits, drawing, damaged files, missing classes, every mistake in one sentence."""

import zlib

import numpy as np
import pytest
from PIL import Image

from reprogram.errors import ConfigError, DataError
from reprogram.targets import images
from reprogram.targets.image_folder import image_folder


def fill(root, classes, count=10, size=(8, 8), mode="RGB"):
    rng = np.random.default_rng(zlib.crc32(root.name.encode()))  # other pictures in another folder
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(root / name / f"{i:03}.png")
    return root


def test_train_and_test_folders(tmp_path):
    fill(tmp_path / "train", "ab")
    fill(tmp_path / "test", "ab", count=3)
    task = image_folder(tmp_path, shots=4)
    assert task.info.classes == ("a", "b") and task.info.input_shape == (3, 8, 8)
    assert len(task.train) == 8 and len(task.test) == 6 and np.bincount(task.train.labels).tolist() == [4, 4]
    assert task.split == {"kind": "folders", "test_size": 6}
    for row, label in zip(task.train_rows, task.train.labels, strict=True):
        assert row.startswith(f"train/{'ab'[label]}/")
    pixels = np.asarray(Image.open(tmp_path / task.test_rows[0])).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(task.test.batch([0])[0].numpy(), pixels, atol=1e-6)


def test_one_folder_is_split_the_same_way_for_every_seed(tmp_path):
    fill(tmp_path, "abc")
    first, second = (image_folder(tmp_path, shots=3, seed=seed) for seed in (0, 1))
    assert first.test_rows == second.test_rows and len(first.test) == 6
    assert first.train_rows != second.train_rows
    assert not set(first.test_rows) & set(first.train_rows)
    assert image_folder(tmp_path, shots=3, seed=1).train_rows == second.train_rows


def test_labels_in_all_and_every_image(tmp_path):
    fill(tmp_path / "train", "ab")
    fill(tmp_path / "test", "ab", count=2)
    assert len(image_folder(tmp_path, labels=7).train) == 7
    assert len(image_folder(tmp_path, shots=None).train) == 20


def test_grey_images_keep_one_channel(tmp_path):
    assert image_folder(fill(tmp_path, "ab", mode="L"), shots=2).info.input_shape == (1, 8, 8)


def test_images_of_several_sizes_become_one_square(tmp_path):
    fill(tmp_path, "a", size=(8, 8))
    fill(tmp_path, "b", size=(300, 20))
    assert image_folder(tmp_path, shots=2).info.input_shape == (3, 224, 224)
    assert image_folder(tmp_path, shots=2, size=40).train.batch([0]).shape == (1, 3, 40, 40)


def test_a_class_missing_from_the_sample_never_shifts_columns(tmp_path):
    fill(tmp_path / "train", "ac")
    fill(tmp_path / "test", "abc", count=2)
    task = image_folder(tmp_path, shots=2)
    assert task.info.classes == ("a", "b", "c")
    assert sorted(set(task.train.labels.tolist())) == [0, 2]
    assert sorted(set(task.test.labels.tolist())) == [0, 1, 2]
    assert "No training image of: b." in task.notes


def test_damaged_files_are_named_counted_and_skipped(tmp_path):
    fill(tmp_path / "train", "ab", count=30)
    fill(tmp_path / "test", "ab", count=20)
    (tmp_path / "train" / "a" / "000.png").write_bytes(b"not an image")
    truncated = tmp_path / "test" / "b" / "004.png"
    truncated.write_bytes(truncated.read_bytes()[:-60])
    task = image_folder(tmp_path, shots=16)
    assert len(task.train) == 32 and len(task.test) == 39
    assert len(task.notes) == 1 and task.notes[0].startswith("2 of 100 images cannot be read and were skipped: ")
    assert "train/a/000.png (it is not an image)" in task.notes[0] and "test/b/004.png (" in task.notes[0]


def test_a_drawn_file_that_is_damaged_is_drawn_again(tmp_path):
    fill(tmp_path / "train", "ab", count=3)
    fill(tmp_path / "test", "ab", count=2)
    truncated = tmp_path / "train" / "a" / "001.png"
    truncated.write_bytes(truncated.read_bytes()[:-60])
    for seed in range(4):
        task = image_folder(tmp_path, shots=2, seed=seed)
        assert np.bincount(task.train.labels).tolist() == [2, 2] and "train/a/001.png" not in task.train_rows


def test_more_than_five_percent_damage_ends_the_run(tmp_path):
    fill(tmp_path / "train", "ab", count=20)
    for i in range(3):
        (tmp_path / "train" / "b" / f"{i:03}.png").write_text("broken")
    with pytest.raises(DataError, match=r"3 of 40 images in .* cannot be read, more than 5%: .*b/000.png"):
        image_folder(tmp_path, shots=2)


def test_images_beyond_memory_are_decoded_when_needed(tmp_path, monkeypatch):
    fill(tmp_path, "ab")
    kept = image_folder(tmp_path, shots=3)
    monkeypatch.setattr("reprogram.targets.image_folder.IN_MEMORY", 100)
    lazy = image_folder(tmp_path, shots=3)
    assert isinstance(lazy.test, images.ImageFiles)
    np.testing.assert_array_equal(kept.test.batch([0, 3]).numpy(), lazy.test.batch([0, 3]).numpy())


def test_other_files_and_hidden_ones_are_no_images(tmp_path):
    fill(tmp_path, "ab")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    task = image_folder(tmp_path, shots=2)
    assert task.info.classes == ("a", "b") and task.notes == []


def case(tmp_path, kind):
    if kind == "missing":
        return {"root": tmp_path / "nowhere"}
    if kind == "file":
        (tmp_path / "x.png").write_bytes(b"")
        return {"root": tmp_path / "x.png"}
    if kind == "empty":
        return {"root": tmp_path}
    if kind == "one class":
        return {"root": fill(tmp_path, "a")}
    if kind == "one class in train":
        fill(tmp_path / "train", "a")
        fill(tmp_path / "test", "ab")
        return {"root": tmp_path}
    if kind == "too few in all":
        return {"root": fill(tmp_path, "ab", count=5), "labels": 99}
    if kind == "size":
        return {"root": fill(tmp_path, "ab"), "size": 0}
    return {"root": fill(tmp_path, "ab"), "test_size": 50}


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "does not exist"),
        ("file", "is a file; it must be a folder"),
        ("empty", "holds no images"),
        ("one class", "only the class 'a'; at least two"),
        ("one class in train", "only the class 'a'; at least two"),
        ("too few in all", "target.labels=99 asks for more"),
        ("size", "target.size=0 must be at least 1"),
        ("test size", "leaves nothing to train on"),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path, kind, sentence):
    with pytest.raises((ConfigError, DataError), match=sentence):
        image_folder(**case(tmp_path, kind))


def test_white_of_deep_pictures_is_that_of_the_program(tmp_path):
    """12 bits in 16-bit files: a darker set, or one picture, alone would be read brighter than what was learned from."""
    from reprogram.estimator_inputs import given
    from reprogram.interfaces import TargetInfo
    from reprogram.prediction.frames import read_images
    from reprogram.targets.unlabelled import open_inputs

    rng = np.random.default_rng(0)
    for i in range(12):
        folder = tmp_path / "learned" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 3000, (8, 8)).astype(np.uint16)).save(folder / f"{i}.png")
    info = image_folder(tmp_path / "learned", shots=3).info
    assert info.white == 4095 and TargetInfo.from_json(info.to_json()) == info
    (tmp_path / "new").mkdir()
    dark = tmp_path / "new" / "dark.png"
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(dark)
    inputs = open_inputs({"_target_": "reprogram.targets.image_folder.image_folder", "root": str(tmp_path / "new")})
    inputs.suit(info)
    assert {int(v) for v in np.unique(next(iter(inputs)).content)} == {56} and "4095" in inputs.notes[0]  # 900 / 4095 * 255
    assert int(read_images(given([dark]), info.input_shape, info.white).inputs.max()) == 56
    with pytest.raises(ValueError, match="at most 65535"):
        TargetInfo.from_json(info.to_json() | {"white": 1e9})
