import math

import numpy as np
import pytest
import torch
from torch import nn

from reprogram.inputs.coarse import Coarse
from reprogram.inputs.full import Full
from reprogram.inputs.low_rank import LowRank
from reprogram.inputs.none import NoPrompt
from reprogram.inputs.pad import Pad
from reprogram.inputs.resize import Resize
from reprogram.inputs.sample_mask import SampleMask
from reprogram.inputs.views import Views
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.certification.linear_bounds import relax
from reprogram.robustness.certification.linear_bounds.bounds import Ball, Bounds, Box
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.certification.linear_bounds.recording import written_down
from reprogram.robustness.certification.linear_bounds.trace import NotBounded, record
from reprogram.robustness.smallest import smallest
from reprogram.sources import efficientnet
from reprogram.threat import Threat


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.3), ("l1", 1.0)])
def test_bounds_hold_samples_and_are_never_looser_than_intervals(norm, eps, everything):
    model, image = everything, torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0))
    network = record(model, image)
    assert torch.allclose(network.value(image[None])[0].float(), model(image[None])[0], atol=1e-5)
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
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double().requires_grad_(False)
    model[1].bias.copy_(torch.tensor([5.0, -5, 5, -5, 5, -5]))  # every neuron keeps its sign
    image = torch.rand(1, 2, 2, dtype=torch.float64)
    network = record(model, image)
    low, high = Bounds(network, Ball(image[None].double(), 0.1, low=-math.inf, high=math.inf)).output()
    alive = model[3].weight[:, ::2] @ model[1].weight[::2]
    half = 0.1 * alive.abs().sum(1)
    value = model(image[None])[0]
    assert torch.allclose(low, value - half) and torch.allclose(high, value + half)
    low, high = Bounds(network, Ball(image[None].double(), 0.0)).output()
    assert torch.allclose(low, high) and torch.allclose(low, value)


def test_one_hidden_neuron_is_analytic():
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)).double().requires_grad_(False)
    for parameter, value in zip(model.parameters(), ([[2.0]], [0.0], [[1.0], [-1.0]], [0.0, 0.5]), strict=True):
        parameter.copy_(torch.tensor(value))
    image = torch.full((1, 1, 1), 0.25, dtype=torch.float64)  # before the ReLU: 0.5 +- 1, so relu is in [0, 1.5]
    low, high = Bounds(record(model, image), Ball(image[None].double(), 0.5, low=-math.inf, high=math.inf)).output()
    assert high.tolist() == pytest.approx([1.5, 0.5]) and low.tolist()[1] == pytest.approx(-1.0)
    assert low.tolist()[0] == pytest.approx(0.0, abs=1e-6), "no looser than the interval"


@pytest.mark.parametrize("bend", ["relu", "tanh", "sigmoid"])
def test_lines_of_bends_stay_on_their_side(bend):
    generator = torch.Generator().manual_seed(0)
    low = 8 * torch.rand(500, generator=generator, dtype=torch.float64) - 5
    high = low + 4 * torch.rand(500, generator=generator, dtype=torch.float64) ** 3
    lines = getattr(relax, bend)(low, high)
    for share in torch.linspace(0, 1, 101):
        x = low + share * (high - low)
        y = getattr(torch, bend)(x)
        assert (lines.low_slope * x + lines.low <= y + 1e-9).all()
        assert (lines.high_slope * x + lines.high >= y - 1e-9).all()


@pytest.mark.parametrize("bend", sorted(relax.CURVED))
def test_lines_of_curves_stay_on_their_side_and_near(bend):
    """Also within thin and wide intervals, and where the curve turns; nearer than the curve's own range."""
    generator = torch.Generator().manual_seed(0)
    low = 30 * torch.rand(800, generator=generator, dtype=torch.float64) - 16
    high = low + 20 * torch.rand(800, generator=generator, dtype=torch.float64) ** 8
    lines, (least, most) = relax.curve(bend, low, high), relax.span(bend, low, high)
    for share in torch.linspace(0, 1, 1009, dtype=torch.float64):
        x = low + share * (high - low)
        y = relax.BENDS[bend](x)
        assert (lines.low_slope * x + lines.low <= y).all() and (lines.high_slope * x + lines.high >= y).all()
        assert (least <= y).all() and (most >= y).all()
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(relax.BENDS[bend](x).sum(), x, create_graph=True)
    (bent,) = torch.autograd.grad(slope.sum(), x)
    assert relax.CURVED[bend] * 0.98 <= bent.abs().max() <= relax.CURVED[bend]
    short = (high - low > 0.01) & (high - low < 0.5)
    assert ((lines.high - lines.low)[short] <= relax.CURVED[bend] * (high - low)[short] ** 2 / 8 * 1.1 + 1e-6).all()


def test_lines_of_max_pooling_stay_on_their_side():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    high = low + torch.rand(300, 4, generator=generator, dtype=torch.float64) * 2
    below, above, offset = relax.largest(low, high)
    for _ in range(200):
        x = low + torch.rand(300, 4, generator=generator, dtype=torch.float64).round() * (high - low)
        assert ((below * x).sum(1) <= x.amax(1) + 1e-9).all()
        assert ((above * x).sum(1) + offset >= x.amax(1) - 1e-9).all()


MODELS = ["digits 2", "digits 3", "digits 10", "linear", "everything", "colours", "program"]
LARGEST = {"linf": 0.3, "l2": 1.5, "l1": 5.0}


@pytest.fixture(scope="module")
def every_model(digit_cnns, linear_model, everything, colour_model, program):
    """Name -> a model of these tests and images [2, C, H, W] with its own answers as labels."""
    drawn = torch.Generator().manual_seed(4)
    found = {f"digits {k}": (model, images[:2]) for k, (model, images, _) in digit_cnns.items()}
    found |= {
        "linear": (linear_model, torch.rand(2, 3, 2, 2, generator=drawn)),
        "everything": (everything, torch.rand(2, 1, 6, 6, generator=drawn)),
        "colours": (colour_model, torch.rand(2, 3, 5, 5, generator=drawn)),
        "program": (program, torch.rand(2, 3, 12, 12, generator=drawn)),
    }
    return {name: (model, images, model(images).argmax(1)) for name, (model, images) in found.items()}


@pytest.mark.parametrize("norm", sorted(LARGEST))
@pytest.mark.parametrize("name", MODELS)
def test_sandwich_no_certificate_exceeds_the_smallest_attack(name, norm, every_model):
    model, images, labels = every_model[name]
    largest, bounds = LARGEST[norm], LinearBounds(both=False, steps=6)
    certified = torch.tensor(
        [bounds.radius(model, x, int(y), norm, largest) for x, y in zip(images, labels, strict=True)]
    )
    sizes = [largest * 2.0**k for k in range(-4, 2)]
    found, _ = smallest(model, images, labels, norm, sizes, lambda threat: PGD(threat, steps=20, restarts=2))
    assert (certified > 0).all(), "vacuous certificates would test nothing"
    assert torch.isfinite(found.distances).any() or name in ("everything", "program"), "attacks must get somewhere"
    assert (certified <= found.distances * (1 + 1e-4)).all()


class LinearSource(SourceModel):
    """Pixels to six logits by one matrix, so that program and source together are one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.name, self.linear = "linear", nn.Linear(3 * 16 * 16, 6)
        self.spec = SourceSpec("image", 16, tuple("abcdef"), feature_size=6)
        self.freeze()

    def answer(self, source_input, taps=()):
        logits = self.linear(source_input.flatten(1))
        return SourceOutput(logits, logits)


INPUTS = {
    "none": NoPrompt(), "pad": Pad(inner=0.6), "resize": Resize(scale=0.7), "full": Full(), "coarse": Coarse(grid=3),
    "low_rank": LowRank(), "views": Views(sizes=(16,), flip=True), "sample_mask": SampleMask(),
}  # fmt: skip


def reprogrammed(source, before):
    info = TargetInfo("t", "image", "classification", ("a", "b", "c"), (3, 12, 12))
    torch.manual_seed(0)
    model = ReprogrammedModel(source, before, LinearFeatures(), info)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.numel() > 1:
                parameter.normal_(0, 0.05)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def program(tiny_source):
    return reprogrammed(tiny_source(), Pad(inner=0.6))


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_resize_pad_and_prompt_are_folded_into_the_first_layer(name):
    """On a linear source a program without clamping is linear to the target's pixels: its bounds must be exact there."""
    model = reprogrammed(LinearSource(), INPUTS[name])
    image = 0.5 + 0.05 * torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(1))
    network = record(model, image)
    value = model(image[None])[0]
    assert torch.allclose(network.value(image[None])[0].float(), value, atol=1e-4)
    jacobian = torch.func.jacrev(lambda x: model(x[None])[0])(image).flatten(1)
    low, high = Bounds(network, Ball(image[None].double(), 0.02, "l2")).output()
    half = 0.02 * jacobian.norm(dim=1)
    if name == "sample_mask":  # its mask is a network of its own
        assert (low <= value - half + 1e-5).all() and (high >= value + half - 1e-5).all()
    else:
        assert torch.allclose(low.float(), value - half, atol=1e-4)
        assert torch.allclose(high.float(), value + half, atol=1e-4)


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
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).double().requires_grad_(False)
    least, most = torch.zeros(1, 1, 2, 2, dtype=torch.float64), torch.rand(1, 1, 2, 2, dtype=torch.float64)
    low, high = Bounds(record(model, torch.zeros(1, 2, 2).double()), Box(least, most)).output()
    weight = model[1].weight
    assert torch.allclose(high, weight.clamp(min=0) @ most.flatten())
    assert torch.allclose(low, weight.clamp(max=0) @ most.flatten())


def test_lines_below_a_relu_leave_the_least_area():
    """CROWN's choice (Zhang et al. 2018): of all slopes in [0, 1] the one that leaves least between the line and the ReLU."""
    low, high = torch.tensor([-1.0, -3.0, -2.0, -1.0, 1.0, -2.0]), torch.tensor([3.0, 1.0, 2.1, 0.2, 2.0, -1.0])
    lines = relax.relu(low, high)
    assert lines.low_slope.tolist() == [1, 0, 1, 0, 1, 0] and not lines.low.any()
    assert lines.high_slope.tolist() == pytest.approx([3 / 4, 1 / 4, 2.1 / 4.1, 1 / 6, 1, 0])
    assert lines.high.tolist() == pytest.approx([3 / 4, 3 / 4, 4.2 / 4.1, 1 / 6, 0, 0])
    for least, most, slope in zip(low[:4].tolist(), high[:4].tolist(), lines.low_slope.tolist(), strict=False):
        x = torch.linspace(least, most, 2001)
        areas = [float((torch.relu(x) - s * x).mean()) for s in torch.linspace(0, 1, 21)]
        assert float((torch.relu(x) - slope * x).mean()) == pytest.approx(min(areas), abs=1e-6)
    parallel = relax.relu(low, high, parallel=True)
    assert torch.equal(parallel.low_slope[:4], parallel.high_slope[:4])


def relaxed(weight, bias, last, offset, box):
    """The least value of ``last`` on relu(weight x + bias) over a box, each ReLU replaced by its triangle: a linear program."""
    from scipy.optimize import linprog

    least, most = box
    middle, half = (most + least) / 2, (most - least) / 2
    low = weight @ middle + bias - abs(weight) @ half
    high = weight @ middle + bias + abs(weight) @ half
    hidden, size = weight.shape
    rows, limits = [], []
    for j in range(hidden):
        unit = np.eye(hidden)[j]
        rows.append(np.r_[weight[j], -unit])  # z >= w x + b
        limits.append(-bias[j])
        slope = high[j] / (high[j] - low[j]) if low[j] < 0 < high[j] else float(low[j] >= 0)
        line = -slope * low[j] if low[j] < 0 < high[j] else 0.0
        rows.append(np.r_[-slope * weight[j], unit])  # z <= slope (w x + b) + line
        limits.append(slope * bias[j] + line)
    ends = [*zip(least, most, strict=True), *[(0, None)] * hidden]
    found = linprog(np.r_[np.zeros(size), last], np.array(rows), np.array(limits), bounds=ends)
    return found.fun + offset


def test_bounds_are_close_to_the_linear_program_of_triangles_and_never_beyond_it():
    """The triangle is what any lines can reach at best; adaptive lines must come close to it."""
    gaps = []
    for seed in range(12):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 2)).double().requires_grad_(False)
        image = torch.rand(1, 2, 3, dtype=torch.float64)
        ball = Ball(image[None], 0.4, low=-1.0, high=2.0)
        low, high = Bounds(record(model, image), ball).output()
        box = tuple(edge.flatten().numpy() for edge in ball.box())
        first, last = model[1], model[3]
        for row in range(2):
            best = relaxed(
                first.weight.numpy(), first.bias.numpy(), last.weight[row].numpy(), float(last.bias[row]), box
            )
            assert float(low[row]) <= best + 1e-7
            width = float(high[row] - low[row])
            gaps.append((best - float(low[row])) / width)
    assert np.mean(gaps) < 0.04


def test_optimised_slopes_reach_the_linear_program_and_stay_below_it():
    """With one hidden layer the best slopes are the dual of the triangles' program: nothing is left between them."""
    before, after = [], []
    for seed in range(2):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 2)).double().requires_grad_(False)
        image, last = torch.rand(1, 2, 3, dtype=torch.float64), model[3]
        bounds = Bounds(record(model, image), Ball(image[None], 0.4, low=-1.0, high=2.0))
        low, found = bounds.output()[0], bounds.optimised(torch.eye(2, dtype=torch.float64), 30)
        box = tuple(edge.flatten().numpy() for edge in bounds.ball.box())
        for row in range(2):
            weights = (model[1].weight.numpy(), model[1].bias.numpy(), last.weight[row].numpy(), float(last.bias[row]))
            best = relaxed(*weights, box)
            assert low[row] <= found[row] <= best + 1e-7
            before.append(best - float(low[row]))
            after.append(best - float(found[row]))
    assert np.mean(after) < 0.1 * np.mean(before)


def test_optimised_slopes_hold_samples_and_prove_more(digit_cnn):
    model, images, labels = digit_cnn
    network, row = record(model, images[0]), int(labels[0])
    margins = -torch.eye(10, dtype=torch.float64)
    margins[:, row] += 1
    bounds = Bounds(network, Ball(images[0][None].double(), 0.06))
    low, found = bounds.output(margins)[0], bounds.optimised(margins, 6)
    assert (found >= low).all() and found.mean() > low.mean() + 1e-3
    points = (images[0].double() + 0.06 * (2 * torch.rand(2000, 1, 8, 8, dtype=torch.float64) - 1)).clamp(0, 1)
    with torch.no_grad():
        answers = model(points.float()).double() @ margins.T
    assert (answers.amin(0) >= found - 1e-5).all()
    whole = Bounds(network, Ball(images[0][None].double(), 0.06), slopes=3)  # the intervals before the bends, too
    widths = [float((high - low).sum()) for low, high in (bounds.intervals[-1], whole.intervals[-1])]
    assert widths[1] < widths[0] and (whole.output(margins)[0] >= low - 1e-9).all()
    assert (answers.amin(0) >= whole.optimised(margins, 3) - 1e-5).all()
    ball = Ball(images[0][None].double(), 0.08)
    plain, better = (LinearBounds(both=False, slopes=steps).margin(network, ball, row) for steps in (0, 4))
    assert better > plain


def test_the_earlier_place_of_linear_bounds_is_the_same_module() -> None:
    from reprogram.robustness.linear_bounds.certify import LinearBounds as Earlier

    assert Earlier is LinearBounds


def test_steps_in_place_of_an_efficientnet_can_be_recorded():
    """They are written with an operator that bounds know."""
    image = torch.rand(1, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    recorded, _ = written_down(lambda x: efficientnet._relu6(9 * x), image)
    assert torch.equal(recorded(image), (9 * image).clamp(0, 6))
