from typing import Any

import pytest
import torch

from reprogram.errors import ConfigError
from reprogram.hooks import Run
from reprogram.inputs.full import Full
from reprogram.inputs.none import NoPrompt
from reprogram.ledger import Budget
from reprogram.model import ReprogrammedModel
from reprogram.outputs.bayesian_plus import BayesianPlusMapping
from reprogram.sources.black_box import BlackBoxSource
from reprogram.training.distilled_surrogate import DistilledSurrogate
from reprogram.training.rgf import RandomGradientFree


@pytest.fixture
def setting(tiny_source: Any, easy_images: Any) -> Any:
    def make(prompt: Any = None, budget: int | None = None, **options: Any) -> Any:
        examples, info = easy_images
        service = BlackBoxSource(tiny_source(seed=1), top=1, budget=Budget(queries=budget))
        model = ReprogrammedModel(service, prompt or NoPrompt(), BayesianPlusMapping(share=3.5), info)
        training = DistilledSurrogate(epochs=3, batch_size=20, local=tiny_source(seed=2), distil_rate=0.05, **options)
        return model, service, training, examples

    return make


def test_copy_agrees_with_the_service_and_asks_once_for_each_training_input(setting: Any, empty_run: Run) -> None:
    model, service, training, examples = setting(serve="copy")
    training.fit(model, examples, empty_run)
    assert service.ledger.calls == len(examples)
    assert training.agreement > 0.8
    model.predict(examples)
    assert service.ledger.calls == len(examples), "the copy serves without asking"
    assert (empty_run.dir / "surrogate.safetensors").exists()


def test_program_of_the_copy_is_carried_over_and_polished_with_real_queries(setting: Any, empty_run: Run) -> None:
    polish = RandomGradientFree(directions=2)
    model, service, training, examples = setting(Full(), polish=polish, polish_epochs=1, polish_batch_size=20)
    history = training.fit(model, examples, empty_run)
    assert model.source is service
    assert history.search["points"][0]["queries"] == 40 + 40, "the gate, and the program carried over"
    steps = 20 * 2 + 8 * 3  # on searched labels; the first step's own loss is known already
    assert service.ledger.calls == 40 + 40 + steps + 40, "and the judgement of the polish"
    assert [row.get("queries") is not None for row in history.epochs] == [False, False, False, True]


def test_program_of_the_copy_must_beat_the_gate_at_the_service(setting: Any, empty_run: Run) -> None:
    """The gate is kept where labels that the copy did not see are read no better under its prompt."""
    model, service, training, examples = setting(Full())
    history = training.fit(model, examples, empty_run)
    start, carried = history.search["points"]
    assert (start["queries"], carried["queries"]) == (40, 80) == (service.ledger.calls - 40, service.ledger.calls)
    moved = float(model.input.delta.detach().abs().max()) > 0
    assert moved == (history.search["kept"] == "search")
    assert history.search["kept"] == "start" or carried["held_out_error"] < start["held_out_error"]
    model.logits(examples)
    assert service.ledger.calls == 80, "whichever is kept is paid for"


def test_budget_that_ends_after_the_gate_leaves_the_gate(setting: Any, empty_run: Run) -> None:
    model, service, training, examples = setting(Full(), budget=45)
    history = training.fit(model, examples, empty_run)
    assert "was not transferred" in history.ended and service.ledger.calls == 40
    assert float(model.input.delta.detach().abs().max()) == 0
    before = service.ledger.calls
    model.logits(examples)
    assert service.ledger.calls == before, "the program in force is the one whose answers are paid for"


def test_surrogate_must_be_another_model_and_have_features(tiny_source: Any, setting: Any, empty_run: Run) -> None:
    model, _, training, examples = setting()
    training.local = tiny_source(seed=1)
    with pytest.raises(ConfigError, match="the same model as the black box"):
        training.fit(model, examples, empty_run)
    with pytest.raises(ConfigError, match=r"training\.local must be a source with features"):
        DistilledSurrogate()
    with pytest.raises(ConfigError, match=r"training\.serve=both"):
        DistilledSurrogate(local=tiny_source(), serve="both")
    model.source = tiny_source()
    training.local = tiny_source(seed=2)
    with pytest.raises(ConfigError, match="is for a black-box"):
        training.fit(model, examples, empty_run)


def test_same_seed_same_copy(setting: Any, empty_run: Run) -> None:
    answers = []
    for _ in range(2):
        model, _, training, examples = setting(serve="copy")
        training.fit(model, examples, empty_run)
        answers.append(model.logits(examples))
    assert torch.equal(answers[0], answers[1])
