import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.linear_bounds import relax
from reprogram.robustness.linear_bounds.bounds import Ball, Bounds, Box
from reprogram.robustness.linear_bounds.certify import LinearBounds, network_value
from reprogram.robustness.linear_bounds.trace import NotBounded, record
from reprogram.threat import Threat


class Everything(nn.Module):
    """Resize, pad, a prompt, convolution, BatchNorm, ReLU6, a residual, max and average pooling, tanh, sigmoid, cat."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.second, self.third = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
        self.last = nn.Linear(8, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.prompt = torch.rand(1, 1, 10, 10)
        self.eval().requires_grad_(False)

    def forward(self, x):
        x = F.interpolate(x, size=(8, 8), mode="bilinear", antialias=True)
        x = F.pad(x, (1, 1, 1, 1)) + self.prompt.to(x)
        x = F.relu6(self.norm(self.first(x)))
        x = torch.relu(self.second(x)) + x
        x = F.max_pool2d(x, 3, 2, 1)
        x = F.avg_pool2d(torch.tanh(self.third(x)), 2)
        answer = self.last(torch.sigmoid(x.flatten(1)))
        return torch.cat([answer * 2 - 1, x.mean((2, 3))], 1)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.3), ("l1", 1.0)])
def test_bounds_hold_samples_and_are_never_looser_than_intervals(norm, eps):
    model, image = Everything(), torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0))
    network = record(model, image)
    assert torch.allclose(network_value(network, image).float(), model(image[None])[0], atol=1e-5)
    ball = Ball(image[None].double(), eps, norm)
    intervals = [edge.flatten() for edge in Bounds(network, ball, most=0).intervals[-1]]
    generator = torch.Generator().manual_seed(1)
    points = Threat(norm, eps).random(image[None].expand(10_000, -1, -1, -1), generator)
    many = image[None].expand(2000, -1, -1, -1)
    corners = Threat(norm, eps).project(many, many + 9 * torch.randn(many.shape, generator=generator))
    answers = torch.cat([model(points), model(corners)])
    for parallel in (False, True):
        low, high = Bounds(network, ball, parallel=parallel).output()
        assert (answers >= low - 1e-5).all() and (answers <= high + 1e-5).all()
        assert (low >= intervals[0] - 1e-9).all() and (high <= intervals[1] + 1e-9).all()
        assert (high - low).mean() < 0.5 * (intervals[1] - intervals[0]).mean()


def test_bounds_hold_a_hundred_thousand_samples(digit_cnn):
    model, images, _ = digit_cnn
    low, high = Bounds(record(model, images[0]), Ball(images[:1].double(), 0.03)).output()
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        answers = model(Threat("linf", 0.03).random(images[:1].expand(10_000, -1, -1, -1), generator))
        assert (answers >= low - 1e-5).all() and (answers <= high + 1e-5).all()


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2), ("l1", float("inf"))])
def test_linear_networks_are_bounded_exactly(norm, dual, linear_model):
    image = torch.full((3, 2, 2), 0.5) + 0.01 * torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(3))
    logits = linear_model(image[None])[0]
    label = int(logits.argmax())
    weight = linear_model[1].weight
    exact = min(
        float((logits[label] - logits[j]) / (weight[label] - weight[j]).norm(dual)) for j in range(3) if j != label
    )
    found = LinearBounds(steps=40).radius(linear_model, image, label, norm, 5.0, low=-100.0, high=100.0)
    assert found == pytest.approx(exact, rel=1e-4)


def test_stable_regions_are_exact_and_eps_zero_is_the_forward_pass():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).requires_grad_(False)
    model[1].bias.copy_(torch.tensor([5.0, -5, 5, -5, 5, -5]))  # every neuron keeps its sign
    image = torch.rand(1, 2, 2)
    network = record(model, image)
    low, high = Bounds(network, Ball(image[None].double(), 0.1, low=-math.inf, high=math.inf)).output()
    alive = model[3].weight[:, ::2] @ model[1].weight[::2]
    half = 0.1 * alive.abs().sum(1)
    value = model(image[None])[0]
    assert torch.allclose(low.float(), value - half, atol=1e-5) and torch.allclose(
        high.float(), value + half, atol=1e-5
    )
    low, high = Bounds(network, Ball(image[None].double(), 0.0)).output()
    assert torch.allclose(low, high) and torch.allclose(low.float(), value, atol=1e-5)


def test_one_hidden_neuron_is_analytic():
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)).requires_grad_(False)
    for parameter, value in zip(model.parameters(), ([[2.0]], [0.0], [[1.0], [-1.0]], [0.0, 0.5]), strict=True):
        parameter.copy_(torch.tensor(value))
    image = torch.full((1, 1, 1), 0.25)  # before the ReLU: 0.5 +- 1, so relu is in [0, 1.5]
    low, high = Bounds(record(model, image), Ball(image[None].double(), 0.5, low=-math.inf, high=math.inf)).output()
    assert high.tolist() == pytest.approx([1.5, 0.5]) and low.tolist()[1] == pytest.approx(-1.0)
    assert low.tolist()[0] == pytest.approx(0.0), "no looser than the interval"


@pytest.mark.parametrize("bend", ["tanh", "sigmoid"])
def test_lines_of_s_shapes_stay_on_their_side(bend):
    generator = torch.Generator().manual_seed(0)
    low = 8 * torch.rand(500, generator=generator, dtype=torch.float64) - 5
    high = low + 4 * torch.rand(500, generator=generator, dtype=torch.float64) ** 3
    lines = getattr(relax, bend)(low, high)
    for share in torch.linspace(0, 1, 101):
        x = low + share * (high - low)
        y = getattr(torch, bend)(x)
        assert (lines.low_slope * x + lines.low <= y + 1e-9).all()
        assert (lines.high_slope * x + lines.high >= y - 1e-9).all()


def test_lines_of_max_pooling_stay_on_their_side():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    high = low + torch.rand(300, 4, generator=generator, dtype=torch.float64) * 2
    below, above, offset = relax.largest(low, high)
    for _ in range(200):
        x = low + torch.rand(300, 4, generator=generator, dtype=torch.float64).round() * (high - low)
        assert ((below * x).sum(1) <= x.amax(1) + 1e-9).all()
        assert ((above * x).sum(1) + offset >= x.amax(1) - 1e-9).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 10])
def test_sandwich_no_certificate_exceeds_an_attack(norm, classes, digit_cnns):
    model, images, labels = digit_cnns[classes]
    right = torch.nonzero(model(images).argmax(1) == labels).squeeze(1)[:3]
    for row in right.tolist():
        image, label = images[row], int(labels[row])
        radius = LinearBounds(both=False, steps=8).radius(model, image, label, norm, {"linf": 0.2, "l2": 1.0}[norm])
        assert radius > 0.001
        inside = PGD(Threat(norm, radius), steps=30, restarts=2)(model, image[None], labels[row : row + 1])
        assert not inside.broken.any()


def test_wrong_answers_have_no_radius_and_unknown_operations_are_named(digit_cnn):
    model, images, _labels = digit_cnn
    wrong_label = (int(model(images[:1]).argmax()) + 1) % 10
    assert LinearBounds().radius(model, images[0], wrong_label, "linf", 0.1) == 0

    class Squares(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :2] ** 2

    with pytest.raises(NotBounded, match="pow"):
        record(Squares(), images[0])


def test_a_box_bounds_value_by_value():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).requires_grad_(False)
    least, most = torch.zeros(1, 1, 2, 2, dtype=torch.float64), torch.rand(1, 1, 2, 2, dtype=torch.float64)
    low, high = Bounds(record(model, torch.zeros(1, 2, 2)), Box(least, most)).output()
    weight = model[1].weight.double()
    assert torch.allclose(high, weight.clamp(min=0) @ most.flatten())
    assert torch.allclose(low, weight.clamp(max=0) @ most.flatten())
