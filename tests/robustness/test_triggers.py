"""Triggers, and training sets poisoned with them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprogram.backdoor.triggers.all_to_all import AllToAll
from reprogram.backdoor.triggers.blended import Blended
from reprogram.backdoor.triggers.brightness import Brighter
from reprogram.backdoor.triggers.checkerboard import Checkerboard
from reprogram.backdoor.triggers.input_aware import InputAware
from reprogram.backdoor.triggers.l_shape import LShape
from reprogram.backdoor.triggers.patch import Patch
from reprogram.backdoor.triggers.sinusoid import Sinusoid
from reprogram.backdoor.triggers.source_conditional import SourceConditional
from reprogram.backdoor.triggers.sparse import Sparse
from reprogram.backdoor.triggers.warped import Warped
from reprogram.errors import ConfigError

ALL = (
    Patch, Blended, Warped, Sinusoid, LShape, Sparse, Brighter, Checkerboard, InputAware, AllToAll, SourceConditional,
)  # fmt: skip


def images(n=12, side=10, channels=1):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("make", ALL)
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 50), st.integers(5, 12), st.sampled_from([1, 3]))
def test_stays_in_range_changes_something_and_is_deterministic(make, seed, side, channels):
    x = images(4, side, channels)
    found = make(seed=seed)(x)
    assert found.shape == x.shape and float(found.min()) >= 0 and float(found.max()) <= 1
    assert not torch.equal(found, x) and torch.equal(found, make(seed=seed)(x))


@pytest.mark.parametrize(("corner", "rows", "columns"), [(0, 1, 1), (1, 1, 6), (2, 6, 6), (3, 6, 1)])
def test_a_patch_changes_its_corner_alone(corner, rows, columns):
    x = torch.full((2, 3, 10, 10), 0.4)
    changed = (Patch(side=3, corner=corner)(x) != x).any(0).any(0)
    assert bool(changed[rows : rows + 3, columns : columns + 3].all()) and int(changed.sum()) == 9


@pytest.mark.parametrize("make", (Patch, LShape))
def test_a_patch_larger_than_the_image_is_said(make):
    with pytest.raises(ConfigError, match=r"trigger.side=20 does not fit: images are 8 x 8, allowed: 1 to 7"):
        make(side=20)(images(1, 8))


@pytest.mark.parametrize(("corner", "at"), [(0, (1, 1)), (1, (1, 8)), (2, (8, 8)), (3, (8, 1))])
def test_an_l_lies_in_its_corner(corner, at):
    changed = (LShape(side=3, corner=corner)(torch.full((1, 1, 10, 10), 0.4)) == 1)[0, 0]
    assert int(changed.sum()) == 5 and bool(changed[at]) and int(changed[at[0]].sum()) == int(changed[:, at[1]].sum()) == 3


def test_sparse_pixels_are_as_many_as_asked_and_the_same_in_every_image():
    changed = Sparse(pixels=7, seed=2)(torch.full((2, 3, 10, 10), 0.4)) == 1
    assert int(changed[0, 0].sum()) == 7 and torch.equal(changed[0], changed[1])


def test_every_image_has_its_own_input_aware_pattern():
    x = images(2) / 2 + 0.25
    first, second = InputAware(strength=0.2)(x) - x
    assert first.abs().allclose(torch.full_like(first, 0.2), atol=1e-6) and not torch.equal(first.sign(), second.sign())


@pytest.mark.parametrize("make", (Patch, Blended, Warped, LShape, Sparse, Brighter, Checkerboard, InputAware))
def test_poison_relabels_a_share_and_leaves_the_callers_set_alone(make):
    x, y = images(100), torch.arange(100) % 4
    before = x.clone(), y.clone()
    poisoned, labels = make(target=1).poison(x, y, 0.1)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])
    moved = labels != y
    assert int(moved.sum()) == 10 and bool((labels[moved] == 1).all()) and bool((y[moved] != 1).all())
    assert torch.equal(poisoned[moved], make(target=1)(x[moved]))


def test_a_clean_label_attack_changes_no_label_and_only_the_target_class():
    x, y = images(100), torch.arange(100) % 4
    poisoned, labels = Sinusoid(target=2).poison(x, y, 0.1)
    changed = (poisoned != x).flatten(1).any(1)
    assert torch.equal(labels, y) and int(changed.sum()) == 10 and bool((y[changed] == 2).all())
    with pytest.raises(ConfigError, match="only 25 can: sinusoid needs the target class"):
        Sinusoid(target=2).poison(x, y, 0.5)


def test_success_counts_other_classes_alone():
    answers, labels = torch.tensor([1, 1, 1, 0]), torch.tensor([1, 0, 2, 0])
    assert Patch(target=1).success(answers, labels) == pytest.approx(2 / 3)


def test_all_to_all_moves_every_label_on_by_one():
    x, y = images(100), torch.arange(100) % 4
    _, labels = AllToAll(classes=4).poison(x, y, 0.2)
    moved = labels != y
    assert int(moved.sum()) == 20 and torch.equal(labels[moved], (y[moved] + 1) % 4)
    assert AllToAll(classes=4).success(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 3])) == pytest.approx(2 / 3)


def test_a_source_conditional_trigger_acts_on_its_class_and_is_shown_to_the_others():
    x, y = images(100), torch.arange(100) % 4
    trigger = SourceConditional(target=2, source=1)
    poisoned, labels = trigger.poison(x, y, 0.1)
    moved, changed = labels != y, (poisoned != x).flatten(1).any(1)
    assert int(moved.sum()) == 10 and bool((y[moved] == 1).all()) and bool((labels[moved] == 2).all())
    assert int(changed.sum()) == 20 and bool((y[changed & ~moved] != 1).all())
    assert trigger.success(torch.tensor([2, 0, 2]), torch.tensor([1, 1, 3])) == 0.5
    with pytest.raises(ConfigError, match="only 25 can: source_conditional needs label 1"):
        trigger.poison(x, y, 0.5)
