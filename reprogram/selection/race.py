"""Will a trained prompt help? A few gradient steps on part of the labels, judged on the labels left out.

The published predictor (LLR, Jia et al. style) asks how much the loss of a linearised model can still fall; here the few
steps are taken for real and the fall is measured on held-out labels, because a full prompt lowers the loss on its own
labels on natural images while the held-out loss rises.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, TargetTask, to_tensor_labels
from reprogram.modalities import Candidate
from reprogram.modalities.base import Named
from reprogram.model import ReprogrammedModel
from reprogram.result import Result
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.crossval import squared_error
from reprogram.training.augment import Affine
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit


@dataclass(frozen=True)
class PromptTrial:
    """before, after: held-out squared error without and with a few steps of training. gain: standard errors of the fall."""

    prompt: str
    before: float
    after: float
    gain: float
    seconds: float

    @property
    def helps(self) -> bool:
        """Did the error fall by more than one standard error?"""
        return self.gain > 1.0


def forecast(
    prompt: Named, source: SourceModel, target: TargetTask, validation: np.ndarray, seed: int, folder: Path
) -> PromptTrial:
    """Train ``prompt`` for a few epochs on the examples outside ``validation`` [N] bool, under a closed-form mapping."""
    started = time.monotonic()
    kept, held = np.flatnonzero(~validation), np.flatnonzero(validation)
    train, test = target.train.subset(kept), target.train.subset(held)
    labels = to_tensor_labels(test.labels)
    errors = []
    for epochs in (0, 5):
        output = make_output(("ridge_taps", {}))
        model = ReprogrammedModel(source, make_input(prompt), output, target.info)
        training = Training(
            epochs=epochs, batch_size=32, augment=Affine(), optimiser=Backpropagation(learning_rate=0.005)
        )
        training.fit(model, train, Run(folder / f"{prompt[0]}_{epochs}", seed, Result("auto", seed)))
        with torch.no_grad():
            predicted = model.probabilities(model.logits(test, description="judging the prompt"))
        errors.append(squared_error(predicted, labels, target.info).numpy())
    fall = errors[0] - errors[1]
    spread = fall.std(ddof=1) / np.sqrt(len(fall)) if len(fall) > 1 else np.inf
    gain = float(fall.mean() / spread) if spread > 0 else 0.0
    return PromptTrial(prompt[0], float(errors[0].mean()), float(errors[1].mean()), gain, time.monotonic() - started)


def prompted(prompt: Named) -> Candidate:
    """The program of a prompt that is worth training."""
    return Candidate(f"trained {prompt[0]}", prompt, ("ridge_taps", {}), (prompt,), tags=("trained",))


def train_candidate(
    candidate: Candidate, source: SourceModel, target: TargetTask, rows: np.ndarray, context: Run
) -> ReprogrammedModel:
    """A candidate with a trained prompt, on these training rows."""
    model = ReprogrammedModel(source, make_input(candidate.input), make_output(candidate.output), target.info)
    settings = Training(epochs=10, batch_size=32, augment=Affine(), optimiser=Backpropagation(learning_rate=0.005))
    fit(model, target.train.subset(rows), settings, context.seed)
    return model.eval()
