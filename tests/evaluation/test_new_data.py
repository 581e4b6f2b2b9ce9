"""A kept program's view of new data: columns by name, images in its shape."""

import numpy as np
import pytest
import torch

from reprogram.errors import ConfigError, DataError
from reprogram.evaluation.new_data import fitted
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.targets.base import ArrayExamples, StringExamples

PROGRAM = TargetInfo("old", "image", "classification", ("cat", "dog", "fox"), (3, 8, 8))


def task(classes=("fox", "cat"), shape=(1, 6, 6), kind="image", problem="classification"):
    rng = np.random.default_rng(0)
    train, test = (
        ArrayExamples(rng.random((n, *shape), dtype=np.float32), np.arange(n) % len(classes)) for n in (4, 5)
    )
    info = TargetInfo("new", kind, problem, tuple(classes), shape)
    return TargetTask(info, train, test, train_rows=["t0", "t1", "t2", "t3"], test_rows=list("abcde"))


def test_columns_are_found_by_name_not_by_position():
    found = fitted(task(), PROGRAM)
    assert found.test.labels.tolist() == [2, 0, 2, 0, 2]
    assert found.info.classes == PROGRAM.classes and found.info.name == "new"


def test_images_get_the_shape_that_the_program_was_built_for():
    new = task()
    images = fitted(new, PROGRAM).test.batch([1, 4])
    assert images.shape == (2, 3, 8, 8)
    torch.testing.assert_close(images.mean((1, 2, 3)), new.test.batch([1, 4]).mean((1, 2, 3)), atol=0.05, rtol=0)


def test_all_examples_are_read_in_any_order():
    new = task(shape=(3, 8, 8))
    found = fitted(new, PROGRAM, "all")
    assert found.test_rows == ["t0", "t1", "t2", "t3", "a", "b", "c", "d", "e"] and len(found.test) == 9
    both = torch.cat([new.train.batch(range(4)), new.test.batch(range(5))])
    order = [8, 0, 5, 3, 4]
    torch.testing.assert_close(found.test.batch(order), both[order])
    torch.testing.assert_close(found.test.subset([5, 3]).batch([1, 0]), both[[3, 5]])
    assert found.test.subset([5, 3]).labels.tolist() == found.test.labels[[5, 3]].tolist()


def test_strings_stay_strings_and_missing_tasks_stay_missing():
    program = TargetInfo("old", "text", "multilabel", ("a", "b", "c"))
    parts = [StringExamples(["x", "y"], np.array([[1.0, 0.0], [0.0, np.nan]])) for _ in range(2)]
    found = fitted(TargetTask(TargetInfo("new", "text", "multilabel", ("c", "a")), *parts), program, "all")
    assert found.test.batch([3, 0]) == ["y", "x"]
    np.testing.assert_array_equal(found.test.labels[0], [0.0, np.nan, 1.0])


@pytest.mark.parametrize(
    ("options", "examples", "error", "sentence"),
    [
        (
            {"classes": ("cat", "dgo")},
            "test",
            DataError,
            "the class 'dgo', which the program does not know; did you mean",
        ),
        ({"kind": "text"}, "test", DataError, "classification of image inputs, but target new is"),
        ({"problem": "multilabel"}, "test", DataError, "new is multilabel of image"),
        ({}, "train", ConfigError, "task.examples=train is unknown; allowed: test, all"),
    ],
)
def test_data_that_does_not_go_with_the_program(options, examples, error, sentence):
    with pytest.raises(error, match=sentence):
        fitted(task(**options), PROGRAM, examples)


def test_classes_are_the_programs_however_they_are_spelled():
    program = TargetInfo("old", "image", "classification", ("Gen\u00e8ve", "dog", "Dog house"), (1, 6, 6))
    found = fitted(task(("DOG", "Gene\u0300ve", "dog  HOUSE")), program)
    assert found.test.labels.tolist() == [1, 0, 2, 1, 0] and found.info.classes == program.classes
    twins = TargetInfo("old", "image", "classification", ("dog", "DOG", "fox"), (1, 6, 6))
    assert fitted(task(("DOG", "fox")), twins).test.labels.tolist() == [1, 2, 1, 2, 1]
    with pytest.raises(DataError, match="the class 'Dog'"):
        fitted(task(("Dog", "fox")), twins)
