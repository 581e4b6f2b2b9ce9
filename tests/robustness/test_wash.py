"""Washing: curves with exact ends, BatchNorm at every point, what is cut stays cut, nothing given is changed."""

import copy

import pytest
import torch
from torch import nn

from reprogram.backdoor.removal.base import CleanSet, recompute_batch_norm
from reprogram.backdoor.removal.distillation import Distillation, untrained
from reprogram.backdoor.removal.fine_pruning import FinePruning, pruned
from reprogram.backdoor.removal.fine_tuning import FineTuning
from reprogram.backdoor.removal.mode_connectivity import CURVES, ModeConnectivity, check_same, learned, placed
from reprogram.backdoor.removal.noise import WeightNoise
from reprogram.backdoor.triggers.patch import Patch
from reprogram.errors import ConfigError, DataError, SourceError
from reprogram.inputs.full import Full
from reprogram.interfaces import TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.robustness.unfrozen import Unfrozen, accuracy, answers, learn
from reprogram.sources.small_cnn import SmallCNN

WAYS = (
    ModeConnectivity(epochs=2, points=3, tuning=1),
    FineTuning(epochs=1),
    FinePruning(epochs=1),
    WeightNoise(sizes=(0.1,)),
    Distillation(steps=2),
)


def clean_set(n=60, classes=3, channels=1):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    images = 0.3 * torch.rand(n, channels, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1) * 0.3
    return CleanSet.of(images.clamp(0, 1), labels)


def model(seed=0, architecture="normalised", classes=3):
    return Unfrozen(SmallCNN(architecture, 8, labels=classes, seed=seed))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("curve", CURVES)
def test_the_ends_are_exact_and_an_untrained_bend_is_the_straight_line(curve):
    first, last = learned(model(0)), learned(model(1))
    path = CURVES[curve](first, last)
    for name in first:
        assert torch.equal(path.at(0.0)[name], first[name]) and torch.equal(path.at(1.0)[name], last[name])
        for t in (0.25, 0.5, 0.8):
            torch.testing.assert_close(path.at(t)[name], (1 - t) * first[name] + t * last[name])


def test_the_gradient_reaches_the_bend_alone_by_2t_1_minus_t():
    path = CURVES["bezier"](learned(model(0)), learned(model(1)))
    sum(w.sum() for w in path.at(0.3).values()).backward()
    assert all(torch.allclose(b.grad, torch.full_like(b, 2 * 0.3 * 0.7)) for b in path.bend.values())
    assert not any(w.requires_grad for w in (*path.first.values(), *path.last.values()))


def test_equal_ends_give_a_constant_function():
    one, data = model(0), clean_set()
    path = CURVES["polychain"](learned(one), learned(one))
    points = [placed(one, path.at(t), data.images)(data.held_images) for t in (0.0, 0.4, 1.0)]
    torch.testing.assert_close(points[0], points[1])
    torch.testing.assert_close(points[0], points[2])


def test_a_trained_path_has_less_of_a_barrier_than_the_straight_line():
    data = clean_set()
    ends = [learn(model(seed), data.images, data.labels, 12, 1e-2, seed) for seed in (0, 1)]
    trained = ModeConnectivity(epochs=30, rate=3e-3, teach=0.0).train(*ends, data)  # on labels, which the loss is of
    straight = CURVES["bezier"](learned(ends[0]), learned(ends[1]))

    def loss(curve):
        point = placed(ends[0], curve.at(0.5), data.images)
        return float(nn.functional.cross_entropy(point(data.held_images), data.held_labels).detach())

    assert loss(trained) < loss(straight)


def test_trap_batch_norm_is_recomputed_at_every_point():
    data, one = clean_set(), model()
    recompute_batch_norm(one, data.images)
    norm = next(m for m in one.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    one(data.images)
    torch.testing.assert_close(norm.running_mean, seen[0].mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    assert norm.momentum == 0.1 and not one.training
    plain = model(architecture="plain")
    before = copy.deepcopy(plain)
    recompute_batch_norm(plain, data.images)
    assert same(plain, before), "a model without BatchNorm has nothing to recompute"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("architecture", ["plain", "normalised", "residual"])
def test_every_way_gives_a_model_and_changes_nothing_that_was_given(way, architecture):
    one, data = model(architecture=architecture), clean_set()
    before = copy.deepcopy(one)
    first, second = way.wash(one, data, seed=3), way.wash(one, data, seed=3)
    assert same(one, before) and same(first.model, second.model)
    assert first.model(data.held_images).shape == (len(data.held_images), 3) and not first.model.training


def test_the_point_is_chosen_by_held_out_accuracy_and_nearest_to_the_middle():
    data = clean_set()
    ends = [learn(model(seed), data.images, data.labels, 12, 1e-2, seed) for seed in (0, 1)]
    found = ModeConnectivity(epochs=30, points=5).wash(ends[0], data, ends[1])
    assert [round(p["at"], 2) for p in found.curve] == [0, 0.25, 0.5, 0.75, 1]
    best = max(p["held"] for p in found.curve)
    good = [p["at"] for p in found.curve if p["held"] >= best - 2 / len(data.held_labels) - 1e-9]
    assert abs(found.chosen - 0.5) == min(abs(t - 0.5) for t in good)


def test_what_is_cut_stays_cut_while_it_learns():
    one, data = model(), clean_set()
    cut = pruned(one, torch.tensor([1, 4]))
    learn(cut, data.images, data.labels, 3, 1e-2, decay=1e-2)
    last = [m for m in cut.modules() if isinstance(m, nn.Conv2d)][-1]
    norm = [m for m in cut.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    assert not last.weight[[1, 4]].any() and not norm.weight[[1, 4]].any() and not norm.bias[[1, 4]].any()
    assert bool(last.weight[0].any())


def test_two_architectures_are_told_apart_by_the_first_tensor():
    with pytest.raises(
        SourceError, match=r"'source.body.0.0.weight' is \(16, 1, 3, 3\) in the first and \(8, 1, 5, 5\)"
    ):
        check_same(model(), model(architecture="plain"))
    with pytest.raises(SourceError, match=r"'source.head.weight' is \(3, 96\) in the first and \(4, 96\)"):
        ModeConnectivity().wash(model(), clean_set(), model(classes=4))


def test_a_class_with_one_example_and_odd_settings_are_said():
    with pytest.raises(DataError, match="has 1 example of label 2; washing needs two or more"):
        CleanSet.of(torch.rand(5, 1, 8, 8), torch.tensor([0, 0, 1, 1, 2]))
    with pytest.raises(ConfigError, match="curve=spline is unknown; allowed: bezier, polychain"):
        ModeConnectivity(curve="spline")
    with pytest.raises(ConfigError, match="Fine-Pruning needs a convolution"):
        pruned(nn.Linear(2, 2), torch.tensor([0]))


def test_two_programs_on_one_source_are_connected_and_the_source_does_not_move(tiny_source):
    data = clean_set(channels=3)
    target = TargetInfo("t", "image", "classification", ("a", "b", "c"), (3, 8, 8))
    source = tiny_source()
    ends = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        program = ReprogrammedModel(source, Full(size=16), LinearFeatures(), target)
        ends.append(learn(program, data.images, data.labels, 3, 1e-2, seed))
    before = source.fingerprint()
    found = ModeConnectivity(epochs=2, points=3).wash(ends[0], data, ends[1])
    assert source.fingerprint() == before == found.model.source.fingerprint()
    assert found.model.program().keys() == ends[0].program().keys()


def test_a_student_learns_the_answers_and_not_the_trigger():
    data, trigger = clean_set(), Patch(target=0, side=2)
    images, labels = trigger.poison(data.images, data.labels, 0.3)
    given = learn(model(), images, labels, 25, 1e-2)
    found = Distillation(steps=60, rotate=0.0, shear=0.0).wash(given, data).model
    before, after = (trigger.success(answers(m, trigger(data.held_images)), data.held_labels) for m in (given, found))
    assert before > 0.8 and after < 0.2
    assert accuracy(found, data.held_images, data.held_labels) > 0.8


def test_an_answer_that_is_none_of_the_labels_is_not_taught():
    logits = torch.tensor([[4.0, 1.0, 0.0], [4.0, 1.0, 0.0], [4.0, 1.0, 0.0]])
    shares = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]])
    taught = Distillation.taught(lambda _images: logits, torch.zeros(3, 1, 8, 8), shares)
    torch.testing.assert_close(taught, torch.stack([logits[0].softmax(0), shares[1], logits[2].softmax(0)]))


def test_a_student_keeps_no_weight_and_what_is_frozen_stays(tiny_source):
    one = model(architecture="residual")
    new = untrained(one, 0)
    for (name, a), b in zip(one.named_parameters(), new.parameters(), strict=True):
        assert name.endswith(("1.weight", "1.bias")) or not torch.equal(a, b), name  # BatchNorm starts at 1 and 0
    target = TargetInfo("t", "image", "classification", ("a", "b", "c"), (3, 8, 8))
    program = ReprogrammedModel(tiny_source(), Full(size=16), LinearFeatures(), target)
    learn(program, clean_set(channels=3).images, clean_set().labels, 3, 1e-2)
    again = untrained(program, 0)
    assert again.source.fingerprint() == program.source.fingerprint()
    then, now = learned(program), learned(again)
    assert not [name for name in then if torch.equal(then[name], now[name])]
