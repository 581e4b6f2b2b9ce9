"""Labels that the rest contradicts: found, ranked, counted honestly."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reprogram.labels.suspects import find_suspects


def synthetic(n=400, classes=5, flipped=0.1, sharp=4.0, flatten=1.0, seed=0):
    """Left-out probabilities of a calibrated program, and labels of which some were changed to another class."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * sharp
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    true = np.array([rng.choice(classes, p=row) for row in p])
    wrong = rng.random(n) < flipped
    given = np.where(wrong, (true + rng.integers(1, classes, n)) % classes, true)
    shown = p**flatten
    return shown / shown.sum(1, keepdims=True), given, wrong, true


def test_flipped_labels_come_first():
    p, given, wrong, true = synthetic()
    found = find_suspects(p, given)
    score = np.empty(len(given))
    score[found.ranked()] = -np.arange(len(given))
    assert roc_auc_score(wrong, score) > 0.95
    assert wrong[found.ranked(10)].mean() >= 0.8
    sure = found.doubtful(0.9)
    assert (found.suspected[sure] == true[sure]).mean() > 0.9


@pytest.mark.parametrize("flatten", [1.0, 0.4])
def test_the_share_and_the_promise_are_honest(flatten):
    """Also where the program shows too little certainty, as one does that learned from wrong labels."""
    expected, got, shares = [], [], []
    for seed in range(10):
        p, given, wrong, _ = synthetic(flatten=flatten, seed=seed)
        found = find_suspects(p, given)
        rows = found.doubtful(0.5)
        expected.append(found.usually_right(rows))
        got.append(wrong[rows].mean())
        shares.append(found.share)
    assert abs(np.mean(expected) - np.mean(got)) < 0.08
    assert abs(np.mean(shares) - 0.1) < 0.03


def test_clean_labels_raise_few_alarms():
    p, given, _, _ = synthetic(flipped=0.0)
    assert len(find_suspects(p, given).doubtful()) <= 8


def test_an_only_example_and_one_never_left_out_are_not_suspected():
    p = np.full((6, 3), 0.05)
    p[:, 0] = 0.9
    p[4] = np.nan
    found = find_suspects(p, np.array([0, 0, 0, 0, 0, 2]))
    assert found.wrong[5] == 0 and found.wrong[4] == 0
    assert list(found.doubtful()) == []
    assert find_suspects(np.full((1, 2), 0.5), np.array([0])).share > 0


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="left-out probabilities"):
        find_suspects(np.zeros((3, 2)), np.zeros(4, int))
    assert np.isnan(find_suspects(np.full((2, 2), 0.5), np.array([0, 0])).usually_right(np.zeros(0, int)))


def test_few_labels_of_a_timid_program_are_still_doubted():
    """Several inverse temperatures fit forty labels about as well; the single best one would doubt none of these."""
    given = np.r_[np.full(8, 0.2), np.full(32, 0.77)]
    labels = np.arange(40) % 2
    probabilities = np.where(np.arange(2) == labels[:, None], given[:, None], 1 - given[:, None])
    assert find_suspects(probabilities, labels).doubtful().tolist() == list(range(8))
