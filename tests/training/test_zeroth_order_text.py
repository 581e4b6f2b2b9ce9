"""Searches that see losses only, in front of a language model: embeddings and strings go the way that pixels go."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprogram.inputs.decoder_prompt import DecoderPrompt
from reprogram.inputs.dense_token_map import DenseTokenMap
from reprogram.inputs.prompt_text import PromptText
from reprogram.inputs.soft_prompt import SoftPrompt
from reprogram.inputs.token_map import TokenMap
from reprogram.interfaces import TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.sources.text import TextSource
from reprogram.targets.base import StringExamples
from reprogram.training.base import BatchLoss, loss_for, trainable
from reprogram.training.cma_es import CmaEs
from reprogram.training.loop import Training, fit
from reprogram.training.rgf import RandomGradientFree
from reprogram.training.spsa_gc import SpsaGc

INFO = TargetInfo("films", "text", "classification", ("bad", "good"))
STRINGS = ["good film", "the bad film", "good", "bad", "a good good film", "b bad"] * 2
LABELS = np.array([1, 0] * 6)


@pytest.fixture(scope="module")
def source(text_models):
    return TextSource(text_models("bert"))


@pytest.mark.parametrize("optimiser", [RandomGradientFree(directions=2), SpsaGc(), CmaEs(subspace=4)])
@pytest.mark.parametrize(
    ("input", "output"),
    [
        (SoftPrompt(length=2, words="the film"), RidgeTaps()),
        (DenseTokenMap(tokens="characters"), LinearFeatures()),
        (TokenMap(tokens="characters", atoms=20), LinearFeatures()),
        (PromptText(template="the {}"), LinearFeatures()),
    ],
)
def test_a_text_program_is_searched_without_gradients(source, optimiser, input, output):
    model = ReprogrammedModel(source, type(input)(**input.config()), type(output)(**output.config()), INFO)
    history = fit(model, StringExamples(STRINGS, LABELS), Training(epochs=2, batch_size=4, optimiser=optimiser))
    assert len(history.epochs) == 2 and np.isfinite([row["loss"] for row in history.epochs]).all()
    assert np.isfinite(model.predict_proba(STRINGS)).all()


def test_each_candidate_has_its_own_loss(source):
    """Strings of different lengths in one batch, and as many candidates: no answer lands in another's row."""
    model = ReprogrammedModel(source, SoftPrompt(length=2, words="the film"), LinearFeatures(), INFO)
    problem = BatchLoss(model, torch.tensor(LABELS[:5]), loss_for("classification"), inputs=STRINGS[:5])
    start = torch.nn.utils.parameters_to_vector(trainable(model)).detach()
    candidates = start + torch.randn(4, len(start), generator=torch.Generator().manual_seed(0))
    found = problem.losses(candidates)
    for candidate, loss in zip(candidates, found, strict=True):
        torch.nn.utils.vector_to_parameters(candidate, trainable(model))
        torch.testing.assert_close(loss, problem.loss().detach())
    assert found.std() > 0


def test_a_token_map_sees_what_comes_of_a_move(source):
    """Trap: the map reads its last projection, so that without a gradient every candidate had the same loss."""
    model = ReprogrammedModel(source, TokenMap(tokens="characters", atoms=20), LinearFeatures(), INFO)
    with torch.no_grad():
        model.output.weight.normal_() if hasattr(model.output, "weight") else None
    model.train()
    parameters = trainable(model)
    problem = BatchLoss(model, torch.tensor(LABELS[:4]), loss_for("classification"), inputs=STRINGS[:4])
    start = torch.nn.utils.parameters_to_vector(parameters).detach()
    moved = start.clone()
    moved[: model.input.dense.numel()] += torch.randn(model.input.dense.numel(), generator=torch.Generator().manual_seed(0))
    losses = problem.losses(torch.stack([start, moved]))
    assert abs(float(losses[0] - losses[1])) > 1e-6


def test_the_command_ends_well(typed, text_models, tmp_path):
    rows = [(f"{'good' if i % 2 else 'bad'} {chr(97 + i)}", "yes" if i % 2 else "no") for i in range(20)]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(",".join(row) for row in rows))
    target = ["target=csv", f"target.path={tmp_path / 'data.csv'}", "target.input_column=text", "target.label_column=label"]
    source = ["source=text", f"source.model={text_models('bert')}"]
    program = ["training=rgf", "training.epochs=1", "input=soft_prompt", "input.words=the film", "task.baselines=[]"]
    code, error = typed(*source, *target, *program, "device=cpu")
    assert code in (0, None), error
    code, error = typed(*source, *target, *program, "input=decoder_prompt", "device=cpu", folder="other")
    assert code == 2 and "Traceback" not in error


def test_decoder_prompt_says_what_it_needs(source):
    with pytest.raises(Exception, match="encoder-decoder"):
        DecoderPrompt().build(source.spec, INFO)
