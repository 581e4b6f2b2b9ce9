from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, Tap
from reprogram.ledger import EVALUATION
from reprogram.sources._asked import logarithms
from reprogram.sources._labels import read_labels
from reprogram.sources.black_box import BlackBoxSource
from reprogram.sources.callable import CallableSource

LABELS = tuple("abcdef")


class Linear(SourceModel):
    """Six logits from 2x2 images."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.spec = "linear", SourceSpec("image", 2, LABELS)
        self.layer = nn.Linear(12, 6)
        nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.layer.bias)
        self.freeze()

    def answer(self, source_input: Any, taps: Any = ()) -> SourceOutput:
        return SourceOutput(self.layer(source_input.flatten(1)))


def images(count: int = 5) -> torch.Tensor:
    return torch.rand((count, 3, 2, 2), generator=torch.Generator().manual_seed(1))


def test_probabilities_carry_the_logits_up_to_a_constant() -> None:
    hidden = Linear()
    logits = BlackBoxSource(hidden)(images()).logits
    wanted = hidden(images()).logits.log_softmax(1)
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)


def test_logits_pass_as_they_are() -> None:
    hidden = Linear()
    source = BlackBoxSource(hidden, answers="logits")
    torch.testing.assert_close(source(images()).logits, hidden(images()).logits)
    assert source.spec.answers == "logits"


def test_rounded_probabilities_never_become_minus_infinity() -> None:
    logits = BlackBoxSource(Linear(), decimals=1)(images(50)).logits
    assert torch.isfinite(logits).all() and float(logits.min()) == pytest.approx(np.log(0.05))


def test_trap_small_probabilities_are_not_cut_off() -> None:
    """Between 1e-30 and 1e-10 lies much of what an answer says; only an exact zero has no logarithm."""
    values = torch.tensor([[1.0, 1e-10, 1e-30, 0.0], [0.7, 0.2, 0.1, 0.0]])
    wanted = torch.tensor([[1.0, 1e-10, 1e-30, 1e-30], [0.7, 0.2, 0.1, 0.1]]).log()
    torch.testing.assert_close(logarithms(values, None), wanted)
    assert float(logarithms(values, 0.005).min()) == pytest.approx(np.log(0.005))


def test_top_k_hides_the_rest_and_keeps_the_sum() -> None:
    hidden = Linear()
    values = BlackBoxSource(hidden, answers="top_k", top=2)(images()).logits.exp()
    wanted = hidden(images()).logits.softmax(1)
    torch.testing.assert_close(values.sum(1), torch.ones(5))
    for row, full in zip(values, wanted, strict=True):
        best = full.topk(2).indices
        torch.testing.assert_close(row[best], full[best])
        assert len(row.unique()) <= 3, "everything that is hidden is equal"


def test_label_only_answers_become_shares_of_votes() -> None:
    hidden = Linear()
    source = BlackBoxSource(hidden, answers="label", votes=16, vote_noise=0.5)
    values = source(images()).logits.exp()
    torch.testing.assert_close(values.sum(1), torch.ones(5))
    assert source.ledger.calls == 5 * 16, "every vote is a query"
    votes = values * 17 - 1 / 6
    torch.testing.assert_close(votes, votes.round(), atol=1e-4, rtol=0)
    source(images())
    assert source.ledger.calls == 5 * 16, "the same image gets the same noise, and is free"
    one = BlackBoxSource(hidden, answers="label", votes=1)(images()).logits
    assert one.argmax(1).equal(hidden(images()).logits.argmax(1))


def test_noise_is_the_same_each_time_an_image_is_asked() -> None:
    a, b = (BlackBoxSource(Linear(), noise=1.0)(images()).logits for _ in range(2))
    torch.testing.assert_close(a, b)
    assert not torch.allclose(a, BlackBoxSource(Linear())(images()).logits)


def test_no_gradient_and_no_layer_of_the_source_is_ever_touched() -> None:
    class Wall(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            raise AssertionError("a backward pass reached the source")

    class Guarded(Linear):
        def answer(self, source_input: Any, taps: Any = ()) -> SourceOutput:
            return SourceOutput(Wall.apply(super().answer(source_input, taps).logits))

    source = BlackBoxSource(Guarded())
    x = images().requires_grad_()
    answer = source(x)
    assert not answer.logits.requires_grad and answer.features is None and source.spec.taps == ()
    assert list(source.parameters()) == [] and source.state_dict() == {}
    assert not source.differentiable
    with pytest.raises(SourceError, match="is a black-box model: it has no layer 'block_1'"):
        source(x, (Tap("block_1"),))


def test_evaluation_queries_are_counted_apart() -> None:
    source = BlackBoxSource(Linear())
    source(images(4))
    with source.counted_as(EVALUATION):
        source(images(6))
    assert source.ledger.bill()["by_kind"] == {"evaluation": 2, "training": 4}


def test_fingerprint_names_the_model_behind_the_wall_and_programs_cannot_call_services() -> None:
    a, b = BlackBoxSource(Linear()), BlackBoxSource(Linear())
    assert a.fingerprint() == b.fingerprint() and a.origin() is None
    with torch.no_grad():
        other = Linear()
        other.layer.bias += 1
    assert BlackBoxSource(other).fingerprint() != a.fingerprint()


def test_any_function_is_a_source() -> None:
    def judge(x: np.ndarray) -> list[list[float]]:
        return [[float(image.mean()), 1 - float(image.mean())] for image in x]

    source = CallableSource(judge, ["bright", "dark"])
    x = images(3)
    torch.testing.assert_close(source(x).logits.exp()[:, 0], x.mean((1, 2, 3)))
    assert source.name == "judge"


def test_function_that_throws_on_one_image_loses_that_image_alone() -> None:
    def picky(x: np.ndarray) -> np.ndarray:
        if (x > 2).any():
            raise ValueError("too bright")
        return np.full((len(x), 2), 0.5)

    source = CallableSource(picky, ["a", "b"])
    x = images(4)
    x[2] = 3
    assert source(x).logits.shape == (4, 2)
    assert list(source.ledger.reasons.values()) == ["ValueError: too bright"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"function": "numpy"}, "must be written package.module:name"),
        ({"function": "numpy:nothing"}, "cannot be imported"),
        ({"labels": "no/such/file"}, "cannot be read as a file"),
        ({"labels": ["one"]}, "allowed: 2 to 100,000"),
        ({"answers": "probabilites"}, "did you mean 'probabilities'"),
        ({"batch": 0}, "source.batch=0 must be at least 1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        CallableSource(**({"function": lambda x: x, "labels": ["a", "b"]} | options))


def test_labels_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\n\n dog \n")
    assert read_labels(str(tmp_path / "labels.txt")) == ("cat", "dog")
