"""What wrong labels cost, and what leaving the suspected ones out wins back."""

import numpy as np
import pytest

from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel, pick
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.robustness.checks._relearning import keep
from reprogram.robustness.checks.flipped_labels import FlippedLabels, flip
from reprogram.robustness.hook import RobustnessHook
from reprogram.targets.base import ArrayExamples


def test_flips_are_of_other_classes_and_a_class_is_never_emptied():
    labels = np.arange(60) % 3
    changed, rows = flip(labels, 0.1, 3, 0)
    assert len(rows) == 6 and (changed != labels).nonzero()[0].tolist() == sorted(rows.tolist())
    assert (flip(labels, 0.1, 3, 0)[0] == changed).all() and (flip(labels, 0.1, 3, 1)[0] != changed).any()
    assert keep(np.arange(4), np.array([2, 3]), np.array([0, 0, 1, 1])).tolist() == [0, 1, 3]
    assert keep(np.arange(4), np.array([3]), np.array([0, 0, 1, 1])).tolist() == [0, 1, 2]


@pytest.fixture
def fitted(tiny_source, easy_images):
    """(a program, its target of 40 training and 40 test images)."""
    import torch

    examples, info = easy_images
    rng = np.random.default_rng(1)
    noisy = np.clip(examples.images + rng.normal(0, 0.05, examples.images.shape), 0, 1).astype(np.float32)
    test = ArrayExamples(noisy, examples.labels)
    model = ReprogrammedModel(tiny_source(), NoPrompt(), RidgeTaps(layers=("conv@2",)), info)
    outputs = model.collect(examples)
    model.output.fit(pick(outputs, torch.arange(40)), torch.from_numpy(examples.labels))
    model.settle()
    return model.eval(), TargetTask(info, examples, test)


def test_suspects_left_out_win_accuracy_back(fitted, empty_run):
    """The hook hands the program over; the rows are estimates, and flips are found."""
    model, target = fitted
    check = FlippedLabels(shares=(0.1, 0.2), draws=3)
    hook = RobustnessHook("quick", 40, 40, {"linf": 0.1}, checks={"flipped_labels": check})
    hook.on_fit_end(empty_run, model, target)
    rows = {(r["check"], r.get("size")): r for r in empty_run.result.data["robustness"]["rows"]}
    for share in (0.1, 0.2):
        flipped, cleaned = rows["flipped_labels", share], rows["flipped_labels_suspects_left_out", share]
        assert flipped["kind"] == cleaned["kind"] == "estimate" and flipped["n"] == 40
        assert cleaned["value"] >= flipped["value"] and cleaned["value"] > 0.95
        assert flipped["flipped_labels_found"] >= 0.3  # of random convolutions, from 40 labels


def test_a_program_that_is_no_closed_form_is_left_out(tiny_source, easy_images, empty_run):
    from reprogram.outputs.linear import Linear

    examples, info = easy_images
    model = ReprogrammedModel(tiny_source(), NoPrompt(), Linear(), info).eval()
    hook = RobustnessHook("quick", 8, 8, {"linf": 0.1}, checks={"flipped_labels": FlippedLabels()})
    hook.on_fit_end(empty_run, model, TargetTask(info, examples, examples))
    assert not [r for r in empty_run.result.data["robustness"]["rows"] if r["check"].startswith("flipped")]
