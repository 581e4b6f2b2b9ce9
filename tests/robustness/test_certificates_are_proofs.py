"""Nothing is claimed that is not proven: random networks, traps, and models that are not what one pass shows."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprogram.errors import ConfigError
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.certification.linear_bounds.bounds import Ball, Bounds, Box
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.certification.linear_bounds.trace import NotBounded, record
from reprogram.threat import Threat

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _loaded(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_loaded("_random_layers")
nets = _loaded("_random_networks")
_loaded("common")
hunting = _loaded("certificate_hunt")


def small(names, seed):
    net, centre = nets.network(names, seed)
    net.eval()
    return (net.double(), centre.double()) if seed % 2 else (net, centre)


@pytest.mark.parametrize("piece", nets.SAFE)
def test_what_is_on_the_list_is_bounded_and_holds(piece):
    for seed in (0, 1):
        net, centre = small(["conv", piece, "relu", piece], seed)
        found = hunting.hunt(net, centre, seed, certify=seed == 0)
        assert not found.refused and not found.contradicted, (seed, found)


@pytest.mark.parametrize("piece", nets.TRAPS)
def test_traps_are_refused(piece):
    for seed in (0, 2) if piece in ("precision", "autocast") else (0, 1):
        net, centre = small(["conv", piece], seed)
        found = hunting.hunt(net, centre, seed, certify=False)
        assert found.refused, f"{piece} was bounded; contradicted by {found.contradicted}"


def test_a_batch_may_round_otherwise_than_one_input():
    """Constant in the ball, and by luck one logit agreed to the last bit where the recording was compared with the model."""
    net, centre, _ = nets.random_network(5318, 0.4)
    found = hunting.hunt(net, centre, 5318, certify=False)
    assert not found.refused and not found.contradicted


def test_random_networks_contradict_nothing():
    """``benchmarks/certificate_hunt.py`` runs the same on 10,000."""
    bounded = 0
    for seed in range(100_000, 100_060):
        net, centre, names = nets.random_network(seed)
        found = hunting.hunt(net, centre, seed, certify=seed % 2 == 0)
        assert not found.contradicted, (seed, names, found)
        bounded += found.refused is None
    assert bounded > 20, "a hunt that bounds nothing proves nothing"


class Whole(nn.Module):
    """A convolution, a piece and a reader of [1, 4, 4] images."""

    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle, self.last = nn.Conv2d(1, 2, 3, padding=1), middle, nn.Linear(32, 3)

    def forward(self, x):
        return self.last(self.middle(self.first(x)).flatten(1))


class Attending(nn.Module):
    """Self-attention over the pixels of a map of two channels."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.attention = nn.MultiheadAttention(2, 1, dropout, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(x.shape)


IMAGE = torch.full((1, 4, 4), 0.5)


@pytest.mark.parametrize(
    ("middle", "said"),
    [
        (nn.Sequential(nn.ReLU(), nn.InstanceNorm2d(2)), r"the layer 'middle.1' \(InstanceNorm2d\): it normalises by"),
        (nn.Sequential(nn.Dropout(0.5)), r"the layer 'middle.0' \(Dropout\): it draws at random"),
        (nn.BatchNorm2d(2), r"the layer 'middle' \(BatchNorm2d\): it normalises by the statistics of its own input"),
        (nn.Hardswish(), r"the layer 'middle' \(Hardswish\): it is not on the list of operations with proven bounds \(aten"),
        (nn.GELU(approximate="tanh"), r"the layer 'middle' \(GELU\): GELU is bounded as it is defined"),
        (nn.Softmax(1), r"the layer 'middle' \(Softmax\): it is not on the list"),
        (nn.GroupNorm(1, 2), r"the layer 'middle' \(GroupNorm\): it is not on the list"),
        (Attending(), r"the layer 'middle.attention' \(MultiheadAttention\): it combines two values that both depend"),
        (Attending(0.5), r"the layer 'middle.attention' \(MultiheadAttention\): it draws at random"),
    ],
)
def test_a_refusal_names_the_layer_also_one_left_in_training_mode(middle, said):
    with pytest.raises(NotBounded, match=said):
        record(Whole(middle), IMAGE)


def test_resting_dropout_and_running_statistics_are_bounded():
    model = Whole(nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(2), nn.LeakyReLU())).eval()
    assert LinearBounds(steps=6).radius(model, IMAGE, int(model(IMAGE[None]).argmax()), "linf", 0.5) > 0


class Late(nn.Module):
    """Turns round after a thousand passes: no comparison would see it."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x if self.calls < 1000 else -x


class Rarely(nn.Module):
    def forward(self, x):
        return x if np.asarray(x.detach()).max() < 1e6 else -x


class Caught(nn.Module):
    def forward(self, x):
        try:
            return x * (1 + 1e-12 * x.max().item())
        except Exception:
            return x


def test_what_no_comparison_would_see_is_refused():
    with pytest.raises(NotBounded, match=r"a pass changes 'middle.calls'"):
        record(Whole(Late()), IMAGE)
    for middle in (Rarely(), Caught()):
        with pytest.raises(NotBounded, match=r"the layer 'middle' .*it reads values out of its tensors"):
            record(Whole(middle), IMAGE)


def test_the_graph_is_compared_with_the_model_at_other_points():
    """A function of one input at a time that changes after it was recorded: only the comparison can tell."""
    weight, calls = torch.randn(3, 16, dtype=torch.float64), []

    def changing(x):
        calls.append(1)
        y = x.reshape(1, 16)
        return (y if len(calls) == 1 else y * y) @ weight.T

    with pytest.raises(NotBounded, match="it computes something else at other inputs"):
        record(changing, IMAGE)


def test_a_model_that_changes_later_is_noticed_by_the_bounds():
    scale = [1.0]
    weight = torch.randn(3, 16, dtype=torch.float64)
    network = record(lambda x: scale[0] * (x.reshape(1, 16) @ weight.T), IMAGE)
    Bounds(network, Ball(IMAGE[None].double(), 0.1))
    scale[0] = 1.5
    with pytest.raises(NotBounded, match="something else"):
        Bounds(network, Ball(IMAGE[None].double(), 0.1))


def test_models_that_change_their_input_or_compute_in_low_precision_are_refused():
    model = Whole(nn.ReLU()).double()

    def in_place(x):
        return model(x.mul_(1.1))

    with pytest.raises(NotBounded, match="changes its input in place"):
        record(in_place, IMAGE)
    with pytest.raises(NotBounded, match="its own precision"):
        record(Whole(nn.Tanh()).bfloat16(), IMAGE)

    def autocast(x):
        with torch.autocast("cpu", torch.bfloat16):
            return model(x)

    with pytest.raises(NotBounded, match="mixed precision"):
        record(autocast, IMAGE)


def test_answers_that_are_no_logits_of_the_input_are_refused():
    for model, said in (
        (lambda x: torch.ones(1, 3, dtype=torch.float64), "does not depend on its input"),
        (lambda x: x, r"it answers \[1, 1, 4, 4\]"),
        (lambda x: (x.flatten(1), x), "does not answer with one tensor"),
    ):
        with pytest.raises(NotBounded, match=said):
            record(model, IMAGE)


def test_balls_around_points_outside_the_range_are_refused():
    """The box around such a point would be empty or turned inside out, and hold for nothing."""
    with pytest.raises(ConfigError, match=r"outside \[0, 1\]; give its own range as low and high"):
        Ball(torch.full((1, 1, 4, 4), 2.5), 0.1)
    Ball(torch.full((1, 1, 4, 4), 2.5), 0.1, low=-5, high=5)
    for bad in ({"eps": -0.1}, {"eps": float("nan")}, {"eps": 0.1, "norm": "l3"}):
        with pytest.raises(ConfigError):
            Ball(IMAGE[None], **bad)
    with pytest.raises(ConfigError, match="least <= most"):
        Box(torch.ones(1, 2), torch.zeros(1, 2))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_exact_certificates_are_not_broken_at_their_very_edge(norm):
    """The bounds of a linear model leave no gap that would hide float32 rounding, and attacks go a little too far."""
    for seed in range(8):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).requires_grad_(False)
        image = 0.4 + 0.2 * torch.rand(1, 8, 8)
        label = int(model(image[None]).argmax())
        radius = LinearBounds(both=False, steps=30).radius(model, image, label, norm, 0.3 if norm == "linf" else 5.0)
        weight = model[1].weight[1 - label] - model[1].weight[label]
        step = Threat(norm, 1.0).steepest(image[None], weight.view(1, 1, 8, 8))
        if norm == "l1":
            step = F.one_hot(weight.abs().argmax(), 64).view(1, 1, 8, 8) * weight.sign().view(1, 1, 8, 8)
        edge = image[None] + radius * (1 + 1e-5) * step
        assert int(model(edge).argmax()) == label, "what an attack counts as inside"
        threat, y = Threat(norm, radius), torch.tensor([label])
        assert not bool(APGD(threat, steps=10, loss="margin")(model, image[None], y).broken[0])


def test_the_bounds_hold_a_model_in_float32_as_it_rounds():
    """Large values that cancel: float32 answers move by more than the ball moves them."""

    def cancelling(x):
        big = x.flatten(1).sum(1, keepdim=True) * 300
        return torch.cat([(big + x.flatten(1)[:, :1]) - big, x.flatten(1)[:, 1:2] + 1], 1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return cancelling(x)

    image = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    low, high = Bounds(record(Model(), image), Ball(image[None].double(), 1e-5)).output()
    points = Threat("linf", 0.99e-5).random(image[None].expand(500, -1, -1, -1), torch.Generator().manual_seed(1))
    answers = cancelling(points).double()
    assert (answers >= low).all() and (answers <= high).all()
