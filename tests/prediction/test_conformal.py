"""Intervals and sets from left-out answers: they hold as often as they say, and a stranger's are checked."""

import numpy as np
import pytest
import torch

from reprogram.errors import ArtifactError
from reprogram.prediction.conformal import MOST, Conformal


@pytest.mark.parametrize("count", [30, 99, 500, 5000])
def test_a_new_value_lies_within_the_reach_as_often_as_is_said(count):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(60):
        values = rng.normal(size=(count, 1))
        found = Conformal.of(values, np.zeros(count), "regression")
        assert len(found.scores) == min(count, MOST) and found.examples == count
        held.append(np.mean(np.abs(rng.normal(size=2000)) <= found.reach(0.9)))
    assert 0.89 <= np.mean(held) <= 0.9 + 2 / (count + 1) + 0.01


def test_few_examples_cannot_promise_much():
    found = Conformal.of(np.zeros((9, 1)), np.arange(9.0), "regression")
    assert found.reach(0.9) == 8.0 and found.reach(0.95) is None
    assert Conformal.of(np.full((3, 1), np.nan), np.zeros(3), "regression") is None


def test_classes_are_scored_by_the_true_one():
    left = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [np.nan, np.nan]])
    assert Conformal.of(left, np.array([0, 1, 1, 0]), "classification").scores == pytest.approx((0.1, 0.2, 0.6))


def test_what_is_kept_comes_back():
    found = Conformal.of(np.random.default_rng(0).normal(size=(700, 1)), np.zeros(700), "regression")
    assert Conformal.load(found.to_json(), "here") == found


@pytest.mark.parametrize(
    "data",
    [None, [], {"examples": 2}, {"examples": 2, "scores": [1.0]}, {"examples": 2, "scores": [2.0, 1.0]},
     {"examples": 1, "scores": [-1.0]}, {"examples": 1, "scores": [float("nan")]}, {"examples": True, "scores": [1.0]},
     {"examples": 1, "scores": ["1"]}, {"examples": 10**15, "scores": [1.0] * MOST}],
)  # fmt: skip
def test_a_strangers_scores_are_checked(data):
    with pytest.raises(ArtifactError, match="conformal"):
        Conformal.load(data, "program.json")


def test_a_bad_row_is_lost_alone_and_nan_has_its_reason(tiny_source, easy_images):
    """A source that fails on one picture, and answers NaN to another, has lost those two."""
    from reprogram.inputs.none import NoPrompt
    from reprogram.model import ReprogrammedModel
    from reprogram.outputs.linear_features import LinearFeatures
    from reprogram.prediction.answers import NOT_FINITE, answers, read

    class Fragile(tiny_source):
        def answer(self, source_input, taps=()):
            if bool((source_input[:, 0, 0, 0] > 0.99).any()):
                raise ValueError("cannot be read")
            found = super().answer(source_input, taps)
            found.features[source_input[:, 0, 0, 0] < 0.001] = float("nan")
            return found

    examples, info = easy_images
    model = ReprogrammedModel(Fragile(), NoPrompt(), LinearFeatures(), info).eval()
    pixels = [image.clip(0.01, 0.95) for image in examples.images]
    whole = read(model, pixels)
    assert not whole.problems
    pixels[7][0, 0, 0], pixels[20][0, 0, 0] = 1.0, 0.0
    found = read(model, pixels)
    assert found.problems == {7: "cannot be read", 20: NOT_FINITE}
    fine = np.setdiff1d(np.arange(40), [7, 20])
    assert np.allclose(found.scores[fine], whole.scores[fine], atol=1e-5) and np.isnan(found.scores[[7, 20]]).all()
    cells = answers(model, pixels, [""] * 39 + ["is torn"], 0.9)
    assert cells["problem"][7] == "cannot be read" and cells["problem"][39] == "is torn"
    assert [i for i, value in enumerate(cells["prediction"]) if value is None] == [7, 20, 39]
    with pytest.raises(ValueError, match="cannot be read"):
        read(model, [pixels[7]] * 5)
    assert torch.is_grad_enabled()
