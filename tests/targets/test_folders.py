"""Folders of images: which are parts, which are classes, the same picture on both sides, files that are not read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from reprogram.errors import ConfigError, DataError
from reprogram.targets.folders import find, is_part
from reprogram.targets.image_folder import image_folder
from reprogram.targets.images import Shape
from reprogram.targets.unlabelled import ImageInputs, open_inputs


@pytest.fixture
def fill(tmp_path):
    """fill("Training/cat", …): ten small pictures in each folder, no two alike; returns the root."""
    rng = np.random.default_rng(0)

    def make(*folders, count=10, root=tmp_path, kind="png"):
        for name in folders:
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(root / name / f"{i:02}.{kind}")
        return str(root)

    return make


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("train", "test"),
        ("TR", "VAL"),
        ("tr", "holdout"),
        ("train", "Validation"),
        ("train_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("archive/Train", "archive/valid"),
    ],
)
def test_parts_in_any_spelling_are_no_classes(fill, train, test):
    root = fill(*(f"{part}/{name}" for part in (train, test) for name in ("cat", "dog")))
    task = image_folder(root, shots=4)
    assert task.info.classes == ("cat", "dog") and task.split["kind"] == "folders" and len(task.test) == 20
    assert all(row.startswith(train) for row in task.train_rows) and all(row.startswith(test) for row in task.test_rows)


def test_an_unused_part_is_noted_and_test_goes_before_validation(fill):
    root = fill(*(f"{part}/{name}" for part in ("train", "val", "test") for name in "ab"))
    task = image_folder(root, shots=4)
    assert all(row.startswith("test/") for row in task.test_rows)
    assert "Not used, because other parts are trained and tested on: val (20 pictures)." in task.notes


def test_one_part_alone_is_split(fill):
    task = image_folder(fill("Training/a", "Training/b"), shots=4)
    assert task.info.classes == ("a", "b") and task.split["kind"] == "stratified"


def test_a_flat_test_folder_is_noted(fill):
    task = image_folder(fill("train/a", "train/b", "test"), shots=4)
    assert task.info.classes == ("a", "b") and task.split["kind"] == "stratified"
    assert "Folder test has pictures but no class folders: it is not tested on." in task.notes


def test_the_same_class_folders_under_every_folder_are_never_classes(fill):
    root = fill("first/a", "first/b", "second/a", "second/b")
    with pytest.raises(DataError, match=r"same class folders \(first, second\).*name them train and test"):
        image_folder(root)


def test_a_class_may_be_called_train(fill):
    assert image_folder(fill("bus", "car", "train"), shots=2).info.classes == ("bus", "car", "train")


def test_a_training_folder_beside_pictures_must_be_told(fill):
    with pytest.raises(DataError, match=r"holds a folder 'train' with class folders, and beside it 'more'"):
        image_folder(fill("train/a", "train/b", "more"))


def test_pictures_without_class_folders(fill, tmp_path):
    with pytest.raises(DataError, match=r"has 10 pictures in no class folder.*task=predict"):
        image_folder(fill("."))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Train", "train"),
        ("test_images", "test"),
        ("TRAINING SET", "train"),
        ("holdout", "test"),
        ("strain", None),
        ("latest", None),
        ("test train", None),
    ],
)
def test_names_of_parts(name, part):
    assert is_part(name) == part


def test_files_that_are_not_read_are_counted_and_named(fill, tmp_path, monkeypatch):
    root = fill("a", "b")
    (tmp_path / "a" / "x.psd").write_bytes(b"1")
    (tmp_path / "b" / "y.psd").write_bytes(b"1")
    (tmp_path / "b" / "boxes.json").write_text("{}")
    notes = " ".join(image_folder(root, shots=2).notes)
    assert "3 files have endings that are not read: .psd (2), .json (1)." in notes
    monkeypatch.setattr("reprogram.targets.image_formats._heif", lambda: False)
    (tmp_path / "b" / "photo.HEIC").write_bytes(b"1")
    notes = " ".join(image_folder(root, shots=2).notes)
    assert ".heic (1; needs the package pillow-heif: pip install 'reprogram[images]')" in notes


def test_pictures_in_hidden_folders_are_of_no_class(fill, tmp_path):
    root = fill("cat", "dog", count=5)
    fill("cat/.previews", "dog/@eaDir/x", "dog/more", count=2)
    found = find(tmp_path)
    assert len(found.train.files) == 12 and len(list(ImageInputs(tmp_path).files())) == 12, root


def test_links_to_class_folders_are_followed(fill, tmp_path):
    fill("pictures/cat", "pictures/dog", count=5)
    (tmp_path / "data").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "pictures" / name)
        (tmp_path / "pictures" / name / "round").symlink_to(tmp_path / "data")
    assert len(find(tmp_path / "data").train.files) == len(list(ImageInputs(tmp_path / "data").files())) == 10


def test_a_class_with_fewer_than_shots_gives_what_it_has(fill, tmp_path):
    root = fill("a", "b")
    fill("c", count=4)
    task = image_folder(root, shots=6)
    assert np.bincount(task.train.labels).tolist() == [6, 6, 3]
    assert "Fewer examples than target.shots=6, all of them are used: c (3)." in task.notes


def test_the_same_file_in_both_folders_is_refused(fill, tmp_path):
    root = fill("train/a", "train/b", "test/a", "test/b")
    (tmp_path / "test/a/copy.png").write_bytes((tmp_path / "train/a/03.png").read_bytes())
    with pytest.raises(
        DataError, match=r"1 picture is in both .* such as train/a/03.png and test/a/copy.png.*allow_overlap"
    ):
        image_folder(root, shots=2)
    task = image_folder(root, shots=None, allow_overlap=True)
    assert "1 test image is also a training image" in " ".join(task.notes) and len(task.train) == 20


def test_the_same_pixels_in_another_file_are_refused(fill, tmp_path):
    root = fill("train/a", "train/b", "test/a", "test/b")
    Image.open(tmp_path / "train/a/03.png").save(tmp_path / "test/a/copy.bmp")
    with pytest.raises(DataError, match=r"1 picture is in both .*train/a/03.png and test/a/copy.bmp"):
        image_folder(root, shots=None)
    assert len(image_folder(root, shots=None, allow_overlap=True).train) == 20


def test_a_held_out_picture_is_never_learned_from(fill, tmp_path):
    root = fill("a", "b", count=12)
    for name in "ab":
        for i in range(0, 12, 2):
            Image.open(tmp_path / name / f"{i:02}.png").save(tmp_path / name / f"again{i}.bmp")
            (tmp_path / name / f"copy{i}.png").write_bytes((tmp_path / name / f"{i:02}.png").read_bytes())
    for shots in (None, 4):
        task = image_folder(root, shots=shots, test_size=12)
        ours, theirs = ({i.tobytes() for i in part.images} for part in (task.train, task.test))
        assert not ours & theirs
        assert "12 image files repeat an earlier one and were merged with it." in task.notes
        if shots:
            assert np.bincount(task.train.labels).tolist() == [4, 4]  # others are drawn in their place
        else:
            assert "have the same pixels as test images" in " ".join(task.notes)


def test_two_kinds_of_deep_pictures_keep_a_white_each(tmp_path):
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(4):
            values = rng.integers(0, 4000, (8, 8)) if i % 2 else rng.random((8, 8))
            Image.fromarray(values.astype(np.uint16 if i % 2 else np.float32)).save(tmp_path / name / f"{i}.tif")
    note = next(note for note in image_folder(str(tmp_path), shots=None).notes if "white is" in note)
    assert "white is 4095" in note and "white is 1;" in note and "give target.white=" not in note
    inputs = ImageInputs(tmp_path, shape=Shape(1, 8, 8))
    first, second = ([found.content for found in inputs] for _ in range(2))
    assert np.array_equal(first, second) and all(len(np.unique(image)) > 20 for image in second)


@pytest.mark.parametrize("part", ["", "train/"])
def test_a_picture_in_two_classes_is_left_out(fill, tmp_path, part):
    root = fill(f"{part}a", f"{part}b", *([] if not part else ["test/a", "test/b"]))
    (tmp_path / part / "b" / "same.png").write_bytes((tmp_path / part / "a" / "04.png").read_bytes())
    task = image_folder(root, shots=None)
    assert f"1 picture is in several classes: all left out ({part}a/04.png and {part}b/same.png)." in task.notes
    assert not {f"{part}a/04.png", f"{part}b/same.png"} & {*task.train_rows, *task.test_rows}
    assert len(task.train) == (19 if part else 15)


def test_a_picture_saved_once_more_is_named(tmp_path):
    rng = np.random.default_rng(1)
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(4):
                smooth = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize(
                    (64, 64), Image.Resampling.BICUBIC
                )
                smooth.save(tmp_path / part / name / f"{i}.png")
    Image.open(tmp_path / "train/a/2.png").save(tmp_path / "test/a/9.jpg", quality=90)
    notes = " ".join(image_folder(str(tmp_path), shots=None).notes)
    assert "1 test image looks nearly the same as a training image: train/a/2.png and test/a/9.jpg." in notes


@pytest.mark.parametrize(("bits", "white"), [(10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_sixteen_bit_files_of_fewer_bits_are_not_black(tmp_path, bits, white):
    """Trap: 12-bit X-rays in 16-bit files were divided by 65535 and turned black."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 0.2), ("light", 0.9)):
        (tmp_path / name).mkdir()
        for i in range(5):
            values = rng.uniform(level - 0.1, level + 0.1, (8, 8)) * (2**bits - 1)
            values[0, 0] = 2**bits - 1 if i == 0 else values[0, 0]  # white itself
            Image.fromarray(values.astype(np.uint16)).save(tmp_path / name / f"{i}.png")
    task = image_folder(str(tmp_path), shots=None)
    means = [task.train.images[task.train.labels == c].mean() / 255 for c in (0, 1)]
    assert means == pytest.approx([0.2, 0.9], abs=0.05)
    assert f"so white is {white};" in " ".join(task.notes) and task.info.white == white
    given = image_folder(str(tmp_path), shots=None, white=65535)
    assert given.train.images.mean() == pytest.approx(task.train.images.mean() * white / 65535, abs=1)
    assert "so white" not in " ".join(given.notes)


def test_floating_point_pictures_share_one_white(tmp_path):
    for name, level in (("dark", 0.5), ("light", 200.0)):  # the first alone would be taken for 0 to 1
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(np.full((4, 4), level + i / 10, np.float32)).save(tmp_path / name / f"{i}.tif")
    task = image_folder(str(tmp_path), shots=None, size=4)
    assert task.train.images[task.train.labels == 0].max() <= 1


@pytest.mark.parametrize("white", ["bright", 0, -3, 1e9])
def test_a_white_that_is_none(fill, white):
    with pytest.raises(ConfigError, match=r"target.white="):
        image_folder(fill("a", "b"), white=white)


def test_pictures_without_labels_keep_order_and_reason(fill, tmp_path):
    from reprogram.targets.images import Shape

    root = fill(".", "more/deep", count=3)
    (tmp_path / "01.png").write_bytes(b"broken")
    inputs = open_inputs({"_target_": "reprogram.targets.image_folder.image_folder", "root": root, "shots": 16})
    assert [i.row for i in inputs] == [
        "00.png",
        "01.png",
        "02.png",
        "more/deep/00.png",
        "more/deep/01.png",
        "more/deep/02.png",
    ]
    inputs.shape = Shape(3, 4, 4)
    found = list(inputs)
    assert [i.problem for i in found] == ["", "it is not an image", "", "", "", ""]
    assert all(i.content is None if i.problem else i.content.shape == (3, 4, 4) for i in found)
