"""The forecast: between its two witnesses, wide where labels are few, honest on made-up tasks."""

from __future__ import annotations

import numpy as np
import pytest

from reprogram.labels.forecast import (
    GAIN,
    GAIN_FEW,
    GAIN_SPREAD,
    SURE_OFFSET,
    SURE_SPREAD,
    Evidence,
    forecast,
)


def test_evidence_counts_what_can_be_foreseen():
    left = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0], [np.nan] * 3])
    found = Evidence.of(left, np.array([0, 0, 2, 0]), np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    assert found == Evidence(4, 3, foreseen=1, foreseeable=2, confidence=0.75)
    assert Evidence(**found.to_json()) == found


def test_more_labels_foreseen_narrow_and_raise_it():
    few = forecast(Evidence(20, 2, 18, 20, 0.7))
    many = forecast(Evidence(400, 2, 360, 400, 0.7))
    assert few.now.high - few.now.low > many.now.high - many.now.low
    assert abs(many.now.value - 0.9) < 0.02
    assert few.now.low <= few.now.value <= few.now.high <= 1
    assert forecast(Evidence(20, 2, 10, 20, 0.7)).now.value < few.now.value


def test_doubling_raises_it_less_and_less_until_it_is_not_worth_it():
    gains = [
        (lambda f: f.twice.value - f.now.value)(forecast(Evidence(n, 10, round(0.97 * n), n, 0.95)))
        for n in (10, 40, 160, 640, 5000)
    ]
    assert gains == sorted(gains, reverse=True) and gains[-1] > 0
    assert forecast(Evidence(10, 10, 0, 0, 0.4)).worth
    assert not forecast(Evidence(5000, 10, 4950, 5000, 0.98)).worth


def test_the_interval_holds_on_tasks_of_the_model():
    """Synthetic curves drawn as the model says: confidence, foreseen labels, and the accuracy at twice as many."""
    rng = np.random.default_rng(0)
    held, error = [], []
    for _ in range(300):
        n, classes = int(rng.choice([10, 20, 40, 80, 160])), int(rng.choice([2, 10]))
        sure = rng.uniform(0.1, 0.9)  # skill that the program claims
        confidence, scale = (1 + sure * (classes - 1)) / classes, 1 - 1 / classes
        z = SURE_OFFSET + np.log(sure / (1 - sure)) + SURE_SPREAD * rng.normal()
        foreseen = rng.binomial(n, 1 / classes + scale / (1 + np.exp(-z)))
        twice = z + GAIN + GAIN_FEW / np.sqrt(max(n / classes, 0.25)) + GAIN_SPREAD * rng.normal()
        truth = 1 / classes + scale / (1 + np.exp(-twice))
        found = forecast(Evidence(n, classes, foreseen, n, confidence)).twice
        held.append(found.low <= truth <= found.high)
        error.append(abs(found.value - truth))
    assert 0.9 <= np.mean(held) <= 0.995
    assert np.mean(error) < 0.08


def test_two_classes_that_are_guessed_are_half_right():
    guessed = forecast(Evidence(100, 2, 50, 100, 0.5))
    assert guessed.now.low >= 0.5 and guessed.now.value < 0.6


def test_nothing_to_forecast_from():
    with pytest.raises(ValueError, match="two classes"):
        forecast(Evidence(5, 1, 5, 5, 1.0))
