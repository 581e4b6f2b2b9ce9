"""The one stratified split: disjoint, complete, stratified within one, the same for a seed, groups never on both sides."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reprogram
from reprogram.errors import ConfigError, DataError
from reprogram.targets.arrays import from_arrays
from reprogram.targets.splits import draw, fewer_than_asked, hold_out, take, what_the_split_did

labels_of = st.lists(st.integers(0, 5), min_size=3, max_size=60).map(np.array)
sizes = st.one_of(st.floats(0.01, 0.9), st.integers(1, 40))


@settings(max_examples=300, deadline=None)
@given(labels_of, sizes, st.integers(0, 9))
def test_a_split_is_disjoint_complete_stratified_and_repeatable(labels, size, seed):
    try:
        train, test = hold_out(labels, size, seed)
    except (ConfigError, DataError):
        return
    assert sorted([*train, *test]) == list(range(len(labels))) and len(test) and len(train)
    again = hold_out(labels, size, seed)
    assert np.array_equal(train, again[0]) and np.array_equal(test, again[1])
    counts, held = (np.bincount(part, minlength=6) for part in (labels, labels[test]))
    assert (held[counts == 1] == 0).all() if (counts == 1).any() else True  # one example is learned from
    assert ((counts - held)[counts > 0] > 0).all() or (counts[counts > 0].min() >= 2 and len(test) > len(train))
    common = counts > 1
    wanted = (
        (int(size) if size >= 1 else int(np.ceil(size * len(labels)))) * counts * common / max(counts[common].sum(), 1)
    )
    room = counts - 1 >= wanted  # a class gives all but one at most
    if room[common].all():
        assert (np.abs(held - wanted)[common] <= 1 + 1e-9).all()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=4, max_size=40), sizes, st.integers(0, 5))
def test_groups_are_never_on_both_sides(groups, size, seed):
    try:
        train, test = hold_out(np.arange(len(groups)) % 2, size, seed, groups)
    except (ConfigError, DataError):
        return
    assert sorted([*train, *test]) == list(range(len(groups))) and len(test)
    assert not {groups[i] for i in train} & {groups[i] for i in test}


@settings(max_examples=200, deadline=None)
@given(labels_of, st.integers(1, 20), st.booleans(), st.integers(0, 9))
def test_few_labels_are_what_was_asked_or_what_there_is(labels, few, in_all, seed):
    if in_all and few > len(labels):
        with pytest.raises(DataError, match="asks for more examples than"):
            draw(labels, seed, None if in_all else few, few if in_all else None)
        return
    rows = draw(labels, seed, None if in_all else few, few if in_all else None)
    assert len(set(rows.tolist())) == len(rows) and np.array_equal(
        rows, draw(labels, seed, *((None, few) if in_all else (few, None)))
    )
    counts, picked = np.bincount(labels), np.bincount(labels[rows], minlength=labels.max() + 1)
    if in_all:
        assert len(rows) == few and (few < (counts > 0).sum() or (picked[counts > 0] > 0).all())
    else:
        assert np.array_equal(picked, np.minimum(counts, few))


def test_one_example_of_a_class_does_not_end_stratification():
    """Trap: one singleton made the whole split random, and classes of a rare kind vanished from the test."""
    labels = np.array([0] * 50 + [1] * 10 + [2])
    for seed in range(20):
        train, test = hold_out(labels, 12, seed)
        assert np.bincount(labels[test], minlength=3).tolist() == [10, 2, 0] and 60 in train
    notes = what_the_split_did(labels, test, ("a", "b", "c"))
    assert notes == ["c: one example, used for training and not for testing."]


def test_a_test_smaller_than_the_classes_is_still_spread_over_them():
    labels = np.repeat(np.arange(10), 5)
    for seed in range(20):
        _, test = hold_out(labels, 4, seed)
        assert len(set(labels[test])) == 4
    assert "no test example, because the test set has 4 in all" in what_the_split_did(labels, test, tuple("abcdefghij"))[0]


def test_fewer_than_asked_is_said():
    labels = np.array([0] * 20 + [1] * 3)
    assert np.bincount(labels[draw(labels, 0, shots=16)]).tolist() == [16, 3]
    assert fewer_than_asked(labels, 16, None, ("cat", "dog")) == [
        "Fewer examples than target.shots=16, all of them are used: dog (3)."
    ]
    assert not fewer_than_asked(labels, 3, None, ("cat", "dog")) and not fewer_than_asked(labels, 16, 8, ("cat", "dog"))


@pytest.mark.parametrize("size", [0, -1, -0.2, float("nan"), float("inf")])
def test_a_test_size_that_makes_no_sense(size):
    with pytest.raises(ConfigError, match=r"target.test_size="):
        hold_out(np.array([0, 1] * 5), size, 0)


def test_only_singletons_cannot_be_split():
    with pytest.raises(DataError, match="No class has two examples"):
        hold_out(np.arange(6), 0.5, 0)


def test_an_image_of_the_test_is_not_learned_from():
    images = np.random.default_rng(0).integers(0, 255, (40, 4, 4), dtype=np.uint8)
    images[20:40:2] = images[0:20:2]
    task = from_arrays(images, np.arange(40) % 2, test_size=10, shots=None)
    ours, theirs = ({i.tobytes() for i in part.images} for part in (task.train, task.test))
    assert not ours & theirs and "are also test images: not used for training" in task.notes[0]


def test_rows_are_taken_class_by_class():
    labels = np.array([1, 0, 1, 0, 1])
    taken = take(labels, {1: 2, 0: 1}, np.random.default_rng(0))
    assert [len(part) for part in taken] == [2, 1] and set(labels[taken[0]]) == {1}


def test_there_is_no_second_stratified_split():
    """``train_test_split`` is called in one place, and nobody permutes the rows of each class by hand."""
    package = Path(reprogram.__file__).parent
    calls = [
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "train_test_split"
    ]
    assert calls == ["targets/splits.py"]


def test_more_shots_than_any_class_has_take_all_and_say_so():
    labels = np.array([0] * 4 + [1] * 3)
    assert sorted(draw(labels, 0, shots=9).tolist()) == list(range(7))
    assert fewer_than_asked(labels, 9, None, ("cat", "dog")) == [
        "Fewer examples than target.shots=9, all of them are used: cat (4), dog (3)."
    ]
