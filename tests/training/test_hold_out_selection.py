"""A search that sees losses only never returns something worse than its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import sem
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.evaluation.verdict import search_outcome
from reprogram.hooks import Hook, Run
from reprogram.inputs.coarse import Coarse
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import OutputMapping, SourceOutput
from reprogram.ledger import Budget
from reprogram.model import ReprogrammedModel
from reprogram.outputs.top_k import TopK
from reprogram.sources.black_box import BlackBoxSource
from reprogram.training._zeroth_order import Losses, ZerothOrder
from reprogram.training.base import BatchLoss
from reprogram.training.brier import inverse_temperature, squared_error, squash
from reprogram.training.hold_out_selection import HoldOutSelection, held_out
from reprogram.training.loop import Training
from reprogram.training.rgf import RandomGradientFree
from reprogram.training.spsa_gc import SpsaGc


@dataclass
class Steps(ZerothOrder):
    """Moves every parameter by ``size`` a step, whatever the losses say; ``asked`` keeps the images it was shown."""

    size: float = 1.0

    def __post_init__(self) -> None:
        self.seen: list[Tensor] = []

    def step(self, problem: BatchLoss, step: int) -> float:
        self.seen.append(problem.inputs)
        return super().step(problem, step)

    def move(self, losses: Losses, start: Tensor, step: int) -> tuple[Tensor, float]:
        return start + self.size, float(losses(start[None])[0])


@pytest.fixture
def setting(tiny_source: Any, easy_images: Any) -> Any:
    def make(budget: int | None = None, **source: Any) -> Any:
        examples, info = easy_images
        service = BlackBoxSource(tiny_source(seed=1), top=1, budget=Budget(queries=budget), **source)
        return ReprogrammedModel(service, Coarse(16, 2), TopK(k=3), info), service, examples

    return make


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 9))
def test_three_tenths_of_each_class_is_held_out_and_no_class_vanishes(labels: list[int], seed: int) -> None:
    y = np.array(labels)
    held = held_out(y, seed)
    for c in set(labels):
        count = labels.count(c)
        assert held[y == c].sum() == (max(1, round(0.3 * count)) if count > 1 else 0)


def test_trap_a_search_that_ends_worse_than_its_start_hands_back_the_start(setting: Any, empty_run: Run) -> None:
    model, service, examples = setting()
    start, _, _ = setting()
    Training(0).fit(start, examples, empty_run)
    history = Training(2, 16, Steps(size=5.0)).fit(model, examples, empty_run)
    assert history.search["kept"] == "start" and history.search["held_out"] == 12
    assert history.epochs[-1]["held_out_error"] > history.search["points"][0]["held_out_error"]
    for name, tensor in start.program().items():
        torch.testing.assert_close(model.program()[name], tensor)
    before = service.ledger.calls
    model.logits(examples)
    assert service.ledger.calls == before, "the program in force is one whose answers are paid for"
    assert "so the start is what was kept" in search_outcome(history.search)


def test_the_best_program_is_kept_and_not_the_last(setting: Any, empty_run: Run) -> None:
    """A prompt that blinds the source is undone by the first step, and overshot by the later ones."""

    def blinded() -> Any:
        model, _, examples = setting()
        with torch.no_grad():
            model.input.delta.fill_(-1.0)
        return model, examples

    model, examples = blinded()
    history = Training(3, 64, Steps(size=1.0)).fit(model, examples, empty_run)
    assert history.search["kept"] == "search" and history.search["best_epoch"] == 1
    assert torch.equal(model.input.delta.detach(), torch.zeros_like(model.input.delta))
    assert (model.predict(examples) == examples.labels).mean() > 0.9
    assert "fell by" in search_outcome(history.search)


@dataclass(eq=False)
class Scaled(OutputMapping):
    """Two source logits times a trainable factor."""

    def build(self, spec: Any, target: Any) -> None:
        self.factor = nn.Parameter(torch.ones(2))

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return outputs[0].logits[:, :2] * self.factor


def test_a_mapping_that_is_searched_on_cached_answers_is_judged_for_nothing(setting: Any, empty_run: Run) -> None:
    model, service, examples = setting()
    model = ReprogrammedModel(service, NoPrompt(16), Scaled(), model.target)
    start = model.logits(examples)
    history = Training(2, 16, Steps(size=50.0)).fit(model, examples, empty_run)
    assert service.ledger.calls == len(examples)
    assert history.search["kept"] == "start" or history.search["gain"] > 0
    if history.search["kept"] == "start":
        assert torch.equal(model.logits(examples), start)


def test_held_out_labels_are_never_shown_to_the_search(setting: Any, empty_run: Run) -> None:
    model, _, examples = setting()
    strategy = Steps(size=0.0)
    Training(2, 16, strategy).fit(model, examples, empty_run)
    shown = {image.numpy().tobytes() for batch in strategy.seen for image in batch}
    held = held_out(examples.labels, 0)
    kept = {examples.batch([i])[0].numpy().tobytes() for i in np.flatnonzero(held)}
    assert len(shown) == 28 and not shown & kept


@pytest.mark.parametrize("budget", [95, 200, 333])
def test_judging_is_inside_the_budget(budget: int, setting: Any, empty_run: Run) -> None:
    model, service, examples = setting(budget)
    history = Training(50, 16, RandomGradientFree(directions=2)).fit(model, examples, empty_run)
    assert history.ended.startswith(f"The budget is spent (budget.queries={budget};")
    assert service.ledger.calls <= budget
    assert len(history.search["points"]) >= 1
    points = [point["queries"] for point in history.search["points"]]
    assert points == sorted(set(points)), "no program is judged twice"
    before = service.ledger.calls
    model.logits(examples)
    assert service.ledger.calls == before


def test_votes_of_a_label_only_service_are_held_back_too(setting: Any, empty_run: Run) -> None:
    model, service, examples = setting(4 * 40 * 3, answers="label", votes=4)
    history = Training(50, 16, Steps(size=0.1)).fit(model, examples, empty_run)
    assert 4 * 40 * 2 < service.ledger.calls <= 4 * 40 * 3
    assert len(history.search["points"]) == 2, "what was searched was judged"


def test_squared_errors_are_briers_and_skip_unknown_labels() -> None:
    predicted = torch.tensor([[0.8, 0.2]])
    assert float(squared_error(predicted, torch.tensor([0]), "classification")) == pytest.approx(0.08)
    labels = torch.tensor([[1.0, torch.nan]])
    assert float(squared_error(torch.tensor([[0.5, 0.5]]), labels, "multilabel")) == pytest.approx(0.25)
    assert float(squared_error(torch.tensor([[3.0]]), torch.tensor([1.0]), "regression")) == pytest.approx(4)


def test_trap_a_search_that_only_lowers_confidence_is_no_better() -> None:
    """Dividing all logits changes no decision, so it must not change the error that programs are compared by."""
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * 20
    labels = torch.arange(40) % 5

    def error(x: Tensor) -> float:
        predicted = squash(x * inverse_temperature(x, labels, "classification"), "classification")
        return float(squared_error(predicted, labels, "classification").mean())

    assert error(logits) == pytest.approx(error(logits / 50), rel=1e-3)


class StopAfter(Hook):
    def on_epoch_end(self, run: Any, model: Any, epoch: int, metrics: Any) -> None:
        if epoch == 2:
            raise KeyError("killed")


def test_a_resumed_search_ends_with_the_same_program(setting: Any, tmp_path: Any, empty_run: Run) -> None:
    def train(folder: Any, resume: bool = False, hooks: Any = ()) -> Any:
        model, _, examples = setting()
        training = Training(5, 16, SpsaGc(pairs=2, probe=0.2), checkpoint_seconds=0.0)
        run = Run(folder, 0, empty_run.result, resume=resume)
        return training.fit(model, examples, run, hooks), model.program()

    whole, program = train(tmp_path / "a")
    with pytest.raises(KeyError):
        train(tmp_path / "b", hooks=[StopAfter()])
    again, resumed = train(tmp_path / "b", resume=True)
    for name, tensor in program.items():
        assert torch.equal(resumed[name], tensor)
    assert [p["held_out_error"] for p in again.search["points"]] == [
        p["held_out_error"] for p in whole.search["points"]
    ]


def test_gain_of_spsa_follows_from_the_move_that_was_asked_for() -> None:
    """Whatever the scale of the loss, the first step moves a parameter by ``first_move`` on average."""
    for scale in (1e-3, 1.0, 1e3):
        strategy = SpsaGc(pairs=5, first_move=0.02, momentum=0.9)
        strategy.total_steps, strategy.velocity, strategy.sizes = 10, torch.zeros(()), []
        strategy.generator = torch.Generator().manual_seed(0)
        start = torch.zeros(50)
        moved, _ = strategy.move(lambda w, s=scale: s * (w - 1).square().sum(1), start, 0)
        assert float((moved - start).abs().mean()) == pytest.approx(0.02, rel=1e-4)
    with pytest.raises(ConfigError, match=r"training\.optimiser\.first_move=0"):
        SpsaGc(first_move=0)


class Kept:
    """Where the chosen program ends up."""

    def load_program(self, program: Any) -> None:
        self.program = program


@pytest.mark.parametrize(
    ("falls", "kept"),
    [
        ([0.1] * 10, "search"),  # better everywhere by the same
        ([0.3, -0.2] * 8, "start"),  # mean .05, standard error .0645
        ([0.3, -0.2] * 16, "search"),  # mean .05, standard error .0449: more labels, more certain
        ([-0.1] * 10, "start"),
        ([0.0] * 10, "start"),
        ([0.5], "start"),  # one example has no standard error
    ],
)
def test_the_search_must_beat_its_start_by_more_than_one_standard_error(falls: list[float], kept: str) -> None:
    selection = object.__new__(HoldOutSelection)
    selection.model, selection.refits, selection.held = Kept(), False, np.arange(len(falls))
    selection.start = torch.full((len(falls),), 0.7)
    selection.best = selection.start - torch.tensor(falls)
    selection.first, selection.kept = {"start": torch.zeros(1)}, {"search": torch.zeros(1)}
    selection.points = [{"epoch": 0, "held_out_error": 0.7}, {"epoch": 3, "held_out_error": 0.6}]
    found = selection.finish()
    assert found["kept"] == kept and list(selection.model.program) == [kept]
    assert found["gain"] == pytest.approx(np.mean(falls), abs=1e-6) and found["best_epoch"] == 3
    if len(falls) > 1:
        assert found["standard_error"] == pytest.approx(sem(falls), abs=1e-6)


def test_the_factor_on_the_logits_has_the_least_squared_error() -> None:
    """Logits that are ten times too large are divided by about ten."""
    drawn = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(400, 3, generator=drawn)
    labels = torch.multinomial(logits.softmax(1), 1, generator=drawn).squeeze(1)
    factor = inverse_temperature(logits * 10, labels, "classification")
    assert factor == pytest.approx(0.1, rel=0.3)

    def error(f: float) -> float:
        return float(squared_error(squash(logits * 10 * f, "classification"), labels, "classification").mean())

    assert error(factor) < min(error(factor / 2), error(factor * 2))
