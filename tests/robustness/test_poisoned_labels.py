"""A poisoned few-label set: images that share a trigger are found, and leaving them out takes its power away."""

import numpy as np
import pytest
import torch

from reprogram.backdoor.detection.poisoned_labels import PoisonedLabels, inspected, poison, trigger_of
from reprogram.backdoor.triggers.patch import Patch
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.labels.shared_patterns import _scores, _windows, find_shared_patterns
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.robustness.hook import RobustnessHook
from reprogram.targets.base import ArrayExamples


@pytest.fixture
def digits():
    from reprogram.targets.mnist import mnist

    task = mnist(shots=8, seed=3)
    return task.train.batch(range(len(task.train))), np.asarray(task.train.labels)


@pytest.mark.parametrize("right_labels", [False, True])
def test_a_trigger_is_found_whatever_its_label(digits, right_labels):
    images, labels = digits
    able = np.flatnonzero((labels == 4) == right_labels)[:6]
    images, labels = images.clone(), labels.copy()
    images[able], labels[able] = Patch(seed=1)(images[able]), 4
    found = find_shared_patterns(images, labels)
    assert sorted(found.suspected.tolist()) == able.tolist()
    places = found.windows[able]
    assert (places >= 22).all() and (places <= 26).all()  # the corner that the patch is in
    row = inspected("poisoned_labels", images, labels, tuple("0123456789"))
    assert row.kind == "inspection" and row.flags[0].code == "shared_pattern" and "'4'" in row.flags[0].text
    assert row.more["suspected_rows"] == found.suspected.tolist()


def test_clean_digits_and_triggers_of_every_class_alike_raise_no_alarm(digits):
    images, labels = digits
    assert len(find_shared_patterns(images, labels).suspected) == 0
    assert inspected("x", images, labels, tuple("0123456789")).value == 0
    assert len(find_shared_patterns(Patch()(images), labels).suspected) == 0  # a watermark of the camera is no label's


def test_scores_are_those_of_a_plain_loop():
    """The definition, a pair and a window at a time."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(12, 2, 5, 4, generator=generator), np.arange(12) % 2
    windows = _windows(images)
    energy = windows.square().sum(2)
    best = np.full(12, -np.inf)
    for part, size in zip(windows, energy, strict=True):
        for i in range(12):
            like = [float(part[i] @ part[j] / (max(size[i], size[j]) + 0.25 * energy.mean())) for j in range(12)]
            same = sorted((like[j] for j in range(12) if labels[j] == labels[i] and j != i), reverse=True)
            rest = sorted((like[j] for j in range(12) if labels[j] != labels[i]), reverse=True)
            best[i] = max(best[i], same[3] - rest[3])
    assert np.allclose(_scores(windows, torch.from_numpy(labels))[0], best, atol=1e-5)


def test_a_faint_pattern_over_the_whole_image_is_found(digits):
    images, labels = digits
    rows = np.flatnonzero(labels == 7)[:5]
    trigger = trigger_of("clean_label", 7, (28, 28), 0)
    images = images.clone()
    images[rows] = trigger(images[rows])
    found = find_shared_patterns(images, labels)
    assert set(rows) == set(found.suspected) and found.breadth[rows].min() > 5 * np.delete(found.breadth, rows).max()


def test_shapes_are_checked_and_large_images_shrunk():
    with pytest.raises(ValueError, match="two classes"):
        find_shared_patterns(torch.rand(3, 1, 8, 8), np.zeros(3, int))
    assert find_shared_patterns(torch.rand(4, 1, 96, 64), np.arange(4) % 2).shape == (48, 48)


def test_poison_is_of_the_classes_it_should_be():
    labels = np.arange(100) % 10
    for kind in ("patch", "clean_label"):
        trigger = trigger_of(kind, 2, (28, 28), 0)
        changed, rows = poison(trigger, labels, 0.05, 0)
        assert len(rows) == 5 and (changed[rows] == 2).all() and ((labels[rows] == 2) == (kind == "clean_label")).all()
        assert (np.delete(changed, rows) == np.delete(labels, rows)).all()
    assert len(poison(trigger, labels, 0.5, 0)[1]) == 10  # not more than there are


def test_what_a_trigger_does_and_what_leaving_out_wins(tiny_source, digits, empty_run):
    """The hook hands the program over; the trigger works, all of it is found, and without it hardly anything works."""
    two = np.flatnonzero(digits[1] < 2)
    train = ArrayExamples(digits[0][two].numpy(), digits[1][two])
    info = TargetInfo("two", "image", "classification", ("0", "1"), (1, 28, 28))
    model = ReprogrammedModel(tiny_source(), NoPrompt(), RidgeTaps(layers=("conv@4",), head=False), info)
    model.output.fit(model.collect(train), torch.from_numpy(train.labels))
    model.settle()
    check = PoisonedLabels(shares=(0.3,), draws=1)
    hook = RobustnessHook("quick", 16, 16, {"linf": 0.1}, checks={"poisoned_labels": check})
    hook.on_fit_end(empty_run, model.eval(), TargetTask(info, train, train))
    rows = {r["check"]: r for r in empty_run.result.data["robustness"]["rows"]}
    assert rows["poisoned_labels"]["value"] == 0 and rows["poisoned_labels"]["kind"] == "inspection"
    hurt, healed = rows["poisoned_labels_patch"], rows["poisoned_labels_patch_suspects_left_out"]
    assert hurt["kind"] == "estimate" and hurt["success"] > 0.5 and hurt["poisoned_found"] == 1
    assert healed["success"] < 0.2 and healed["value"] == 1 - healed["success"]
