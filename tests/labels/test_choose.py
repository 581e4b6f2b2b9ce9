"""Which inputs to label: every group once, typical ones, no outlier, no near-duplicate, doubt in later rounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.labels.choose import choosing_layers, doubts, first_round, late_layers, next_round, outliers, space

TARGET = TargetInfo("t", "image", "classification", ("a", "b"))


def heaps(sizes=(60, 30, 20, 10), seed=0):
    """Groups of these sizes, far from each other."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return torch.tensor(rng.normal(size=(len(group), 3)) + 40 * np.eye(len(sizes), 3)[group], dtype=torch.float32), group


@pytest.mark.parametrize("how", ["typical", "medoid"])
def test_every_group_is_shown_once_the_largest_first(how):
    points, group = heaps((60, 30, 20))
    rows = first_round(points, 3, how=how)
    assert group[rows].tolist() == [0, 1, 2]
    for row in rows:  # near the middle of its own group
        own = points[group == group[row]]
        middle = (own - own.mean(0)).norm(dim=1)
        assert (points[row] - own.mean(0)).norm() <= middle.median()


def test_a_medoid_is_the_member_nearest_to_the_centre():
    points, _ = heaps((50,))
    distance = (points - points.mean(0)).square().sum(1)
    assert first_round(points, 1, how="medoid")[0] == int(distance.argmin())


def test_outliers_are_told_and_never_chosen():
    points, _ = heaps((100, 100))
    far = torch.cat([points, torch.tensor([[500.0, 0, 0], [0, -900.0, 0]])])
    assert outliers(far).nonzero()[0].tolist() == [200, 201]
    assert not set(first_round(far, 30)) & {200, 201}
    assert not outliers(points[:2]).any()


def test_nothing_is_chosen_twice_nor_nearly_twice():
    points, _ = heaps((30, 30))
    doubled = torch.cat([points, points + 1e-4])
    rows = first_round(doubled, 40)
    assert len(set(rows % 60)) == len(rows) == 40
    again = next_round(doubled, rows, np.ones(120), 60)
    assert not set(rows % 60) & set(again % 60)
    assert len(again) <= 20


def test_later_rounds_go_where_no_label_is_the_most_doubtful_first():
    points, group = heaps((40, 40, 40))
    doubt = np.where(group == 2, 1.0, 0.1)
    assert group[next_round(points, np.array([0]), doubt, 2)].tolist() == [2, 1]
    assert group[next_round(points, np.array([0]), 1.1 - doubt, 2)].tolist() == [1, 2]


def test_doubts_by_hand():
    assert np.allclose(doubts(np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [1.0, 0, 0]])), [1.0, 0.2, 0.0])


@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_rows_are_distinct_rows_of_the_pool(size, budget, seed):
    points = torch.randn(size, 2, generator=torch.Generator().manual_seed(seed))
    rows = first_round(points, budget, seed)
    assert len(set(rows)) == len(rows) <= min(budget, size)
    assert (rows >= 0).all() and (rows < size).all()
    assert np.array_equal(rows, first_round(points, budget, seed))


def test_the_space_of_a_model_that_shows_answers_alone():
    """Answers are standardised: one that moves more does not drown the others."""
    labels = tuple(map(str, range(40)))
    spec = SourceSpec("image", 32, labels)
    logits = torch.randn(300, 40, generator=torch.Generator().manual_seed(0))
    logits[:, 0] *= 10
    points = space([SourceOutput(logits)], spec, TARGET)
    assert points.isfinite().all() and points.shape == (300, 16)
    variance = points.square().mean(0)
    assert variance[0] < 4 * variance[1]


def test_layers_by_rule():
    spec = SourceSpec("image", 224, (), feature_size=4, taps=("block_1", "block_2", "block_3", "head"))
    assert late_layers(spec) == choosing_layers(spec, True) == ["block_2@2", "block_3@2"]
    assert choosing_layers(spec, False) == []
    text = SourceSpec("text", 32, (), taps=("layer_1",), answers="none")
    assert choosing_layers(text, False) == []
    taps = {Tap("layer_1", p): torch.randn(9, 4) for p in ("mean", "max", "std")}
    assert len(space([SourceOutput(torch.zeros(9, 0), None, taps)], text, TARGET)) == 9


def test_of_nothing_nothing_is_chosen():
    """Every input of the pool was looked at, and nobody could tell."""
    assert len(next_round(torch.zeros(0, 3), np.zeros(0, int), np.zeros(0), 5)) == 0
