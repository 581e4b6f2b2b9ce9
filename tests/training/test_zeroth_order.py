from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.hooks import Run
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import OutputMapping, SourceModel, SourceOutput, SourceSpec
from reprogram.model import ReprogrammedModel
from reprogram.sources.black_box import BlackBoxSource
from reprogram.training._zeroth_order import ZerothOrder
from reprogram.training.cma_es import CmaEs
from reprogram.training.loop import Training
from reprogram.training.rgf import RandomGradientFree, one_sided
from reprogram.training.spsa_gc import SpsaGc, two_sided


def seeded(strategy: ZerothOrder, dimension: int, steps: int = 1, seed: int = 0) -> Any:
    """Started on a plain vector, without a model."""
    strategy.total_steps, strategy.dimension = steps, dimension
    strategy.generator = torch.Generator().manual_seed(seed)
    if isinstance(strategy, CmaEs):
        strategy.begin(dimension, seed)
    strategy.mean = strategy.square = strategy.velocity = torch.zeros(())
    strategy.sizes = []
    return strategy


def quadratic(w: Tensor) -> Tensor:
    """[q, d] -> [q]: sum of i·(w_i - 1)², condition number d."""
    scale = torch.arange(1, w.shape[1] + 1, dtype=w.dtype, device=w.device)
    return (scale * (w - 1).square()).sum(1)


def rosenbrock(w: Tensor) -> Tensor:
    return (100 * (w[:, 1:] - w[:, :-1].square()).square() + (1 - w[:, :-1]).square()).sum(1)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize("directions", [5, 50, 500])
def test_one_sided_estimate_approaches_the_gradient_at_the_predicted_rate(directions: int) -> None:
    d, generator = 100, torch.Generator().manual_seed(0)
    start = torch.zeros(d, dtype=torch.float64)
    gradient = -2 * torch.arange(1, d + 1, dtype=torch.float64)
    cosines = []
    for _ in range(40):
        probes = torch.randn(directions, d, generator=generator, dtype=torch.float64)
        cosines.append(cosine(one_sided(quadratic, start, probes, 1e-4)[0], gradient))
    predicted = (directions / (directions + d - 1)) ** 0.5
    assert np.mean(cosines) == pytest.approx(predicted, abs=0.04)


def test_both_estimates_are_unbiased_on_a_quadratic() -> None:
    d, q = 20, 40_000
    start = torch.zeros(d, dtype=torch.float64)
    gradient = -2 * torch.arange(1, d + 1, dtype=torch.float64)
    probes = torch.randn(q, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimate, base = one_sided(quadratic, start, probes, 1e-5)
    assert base == pytest.approx(210) and cosine(estimate, gradient) > 0.999
    assert float((estimate - gradient).norm() / gradient.norm()) < 0.05
    spsa = seeded(SpsaGc(pairs=q), d)
    estimate, _ = two_sided(quadratic, start, spsa.deltas(d).double(), 1e-3)
    assert float((estimate - gradient).norm() / gradient.norm()) < 0.05


def test_linear_loss_has_its_closed_form_answer() -> None:
    """With orthogonal probes, d of them, both estimates are the gradient itself, whatever the probe's length."""
    slope = torch.tensor([3.0, -1.0, 0.5, 2.0], dtype=torch.float64)
    start = torch.ones(4, dtype=torch.float64)
    estimate, base = one_sided(lambda w: w @ slope, start, torch.eye(4, dtype=torch.float64), 7.0)
    torch.testing.assert_close(estimate, slope)
    assert base == pytest.approx(4.5)
    hadamard = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64)
    torch.testing.assert_close(two_sided(lambda w: w @ slope, start, hadamard, 0.3)[0], slope)


def test_trap_spsa_divides_elementwise_by_perturbations_that_are_not_plus_minus_one() -> None:
    deltas = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    slope = torch.tensor([2.0, 0.0], dtype=torch.float64)
    estimate, _ = two_sided(lambda w: w @ slope, torch.zeros(2, dtype=torch.float64), deltas, 0.1)
    torch.testing.assert_close(estimate, torch.tensor([2.0, -1.0], dtype=torch.float64))


def test_spsa_perturbations_stay_away_from_zero() -> None:
    deltas = seeded(SpsaGc(pairs=50), 40).deltas(40)
    assert float(deltas.abs().min()) >= 0.5 and float(deltas.abs().max()) <= 1
    assert abs(float(deltas.sign().mean())) < 0.1


CASES = [
    ("rgf", lambda: RandomGradientFree(directions=10, smoothing=1e-3, learning_rate=0.1), quadratic, 10, 600, 1e-2),
    ("spsa_gc", lambda: SpsaGc(gain=0.01, probe=0.01), quadratic, 10, 800, 1e-2),
    ("cma_es", lambda: CmaEs(subspace=10, std=0.5), quadratic, 10, 250, 1e-6),
    ("cma_es", lambda: CmaEs(subspace=4, std=0.3), rosenbrock, 4, 500, 1e-6),
    ("spsa_gc", lambda: SpsaGc(gain=0.001, probe=0.01, alpha=0.1), rosenbrock, 2, 4000, 5e-2),
]


@pytest.mark.parametrize(("name", "make", "function", "d", "steps", "reached"), CASES)
def test_standard_functions_are_solved(name: str, make: Any, function: Any, d: int, steps: int, reached: float) -> None:
    strategy = seeded(make(), d, steps)
    w = torch.zeros(d, dtype=torch.float64)
    for step in range(steps):
        w, _ = strategy.move(function, w, step)
    assert float(function(w[None])) < reached


@pytest.mark.parametrize("make", [RandomGradientFree, SpsaGc, CmaEs])
def test_a_step_is_one_request(make: Any) -> None:
    requests = []

    def losses(candidates: Tensor) -> Tensor:
        requests.append(len(candidates))
        return quadratic(candidates)

    strategy = seeded(make(), 50)
    strategy.move(losses, torch.zeros(50), 0)
    assert requests == [{RandomGradientFree: 11, SpsaGc: 10, CmaEs: 14}[make]]


def test_cma_es_searches_a_subspace_with_the_spread_that_was_asked_for() -> None:
    seen: list[Tensor] = []

    def losses(candidates: Tensor) -> Tensor:
        seen.append(candidates)
        return quadratic(candidates)

    strategy = seeded(CmaEs(subspace=8, population=200, std=0.05), 400)
    strategy.move(losses, torch.full((400,), 0.3), 0)
    assert torch.linalg.matrix_rank(seen[0] - 0.3, rtol=1e-4) == 8
    assert float((seen[0] - 0.3).std()) == pytest.approx(0.05, rel=0.1)


def test_cma_es_leaves_numpys_global_random_numbers_alone() -> None:
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    strategy = seeded(CmaEs(), 40)
    strategy.move(quadratic, torch.zeros(40), 0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("make", [RandomGradientFree, SpsaGc, CmaEs])
def test_resumed_strategy_goes_on_bit_for_bit(make: Any) -> None:
    def run(strategy: Any, w: Tensor, steps: range) -> Tensor:
        for step in steps:
            w, _ = strategy.move(quadratic, w, step)
        return w

    whole = run(seeded(make(), 12, 6), torch.zeros(12), range(6))
    first = seeded(make(), 12, 6)
    half = run(first, torch.zeros(12), range(3))
    second = seeded(make(), 12, 6, seed=0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(run(second, half, range(3, 6)), whole)


@pytest.mark.parametrize(
    "make",
    [lambda: RandomGradientFree(directions=0), lambda: SpsaGc(probe=0), lambda: CmaEs(population=2)],
)
def test_wrong_settings_are_named(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"training\.optimiser\.(directions|probe|population)="):
        make()


class Pixels(SourceModel):
    """Two logits: the mean of the left and of the right half of an image. Any backward pass raises."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.spec = "pixels", SourceSpec("image", 8, ("left", "right"))
        self.freeze()

    def answer(self, source_input: Any, taps: Any = ()) -> SourceOutput:
        halves = source_input.mean((1, 2)).unflatten(1, (2, -1)).mean(2) * 10
        return SourceOutput(_Wall.apply(halves))


class _Wall(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise AssertionError("a gradient of the source was taken")


class Shift(NoPrompt):
    """A trainable brightness for each half."""

    def build(self, spec: SourceSpec, target: Any) -> None:
        super().build(spec, target)
        self.delta = nn.Parameter(torch.zeros(2))

    def forward(self, batch: Any) -> list[Any]:
        image = self.plain(batch)
        return [image + self.delta.repeat_interleave(image.shape[-1] // 2)]


class Same(OutputMapping):
    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return outputs[0].logits


@pytest.mark.parametrize(
    "optimiser",
    [
        RandomGradientFree(directions=4, smoothing=0.05, learning_rate=0.05),
        SpsaGc(gain=0.05, probe=0.05),
        CmaEs(std=0.1),
    ],
)
def test_trap_bar_trains_without_any_gradient_of_the_source(optimiser: Any, easy_images: Any, empty_run: Run) -> None:
    """The released BAR applies the white-box gradient; here a backward pass through the source would raise."""
    examples, info = easy_images
    examples.labels[:] = 0  # the program that answers "left" always is the best one
    source = BlackBoxSource(Pixels(), answers="logits", top=1)
    model = ReprogrammedModel(source, Shift(), Same(), info)
    history = Training(epochs=6, batch_size=20, optimiser=optimiser).fit(model, examples, empty_run)
    assert history.epochs[-1]["loss"] < 0.7 * history.epochs[0]["loss"]
    assert source.ledger.calls > 0


def test_spsa_gc_corrects_the_gradient_by_the_velocity_as_published() -> None:
    """In one dimension the estimate of a linear loss is its slope whatever is drawn, so three steps are known by hand."""
    slope, b, alpha, gain = 2.0, 0.9, 0.4, 0.05
    strategy = seeded(SpsaGc(pairs=3, gain=gain, momentum=b, alpha=alpha, offset=1.0), 1)
    w, expected, velocity = torch.zeros(1, dtype=torch.float64), 0.0, 0.0
    for step in range(3):
        w, _ = strategy.move(lambda v: slope * v[:, 0], w, step)
        velocity = b * velocity + slope
        expected -= gain / (step + 1 + 1.0) ** alpha * (slope + b * velocity)
        assert float(w) == pytest.approx(expected, rel=1e-6), f"step {step}"


def test_probes_of_spsa_shrink_and_the_loss_between_them_is_reported() -> None:
    asked: list[Tensor] = []

    def losses(v: Tensor) -> Tensor:
        asked.append(v.clone())
        return v.square().sum(1)

    strategy = seeded(SpsaGc(pairs=4, gain=0.0 + 1e-12, probe=0.5, gamma=0.1), 2)
    for step in (0, 7):
        _, around = strategy.move(losses, torch.ones(2, dtype=torch.float64), step)
        longest = float((asked[-1] - 1).abs().max())
        assert 0.8 * 0.5 / (step + 1) ** 0.1 < longest <= 0.5 / (step + 1) ** 0.1
        assert around == pytest.approx(float(asked[-1].square().sum(1).mean()))


@pytest.mark.parametrize("device", ["cpu", *["cuda"] * torch.cuda.is_available()])
@pytest.mark.parametrize("strategy", [RandomGradientFree(directions=4), SpsaGc(pairs=2), CmaEs(subspace=3)])
def test_a_search_stays_where_its_program_is_and_draws_the_same_everywhere(strategy: ZerothOrder, device: str) -> None:
    """Random numbers come from the CPU; a resumed search has its state there too."""
    here, there = seeded(strategy, 5), torch.full((5,), 0.5, device=device)
    first, _ = here.move(quadratic, there, 0)
    kept = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in here.state_dict().items()}
    second, _ = here.move(quadratic, first, 1)
    again = seeded(strategy, 5)
    again.load_state_dict(kept)
    resumed, _ = again.move(quadratic, first, 1)
    assert first.device == second.device == there.device
    torch.testing.assert_close(resumed, second)
