"""What is odd about a model, before any attack: what it answers, whether it is random, whether its gradients vanish."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, DataError
from reprogram.robustness.attacks.base import Model, in_batches
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Flag
from reprogram.robustness.losses import margin, wrong
from reprogram.threat import input_gradient

GRADIENT_EXAMPLES = 32  # correctly classified ones whose gradient is looked at
RANDOM_EXAMPLES, RANDOM_RUNS = 8, 5  # examples, and repeated passes over them
RANDOM_DISTANCE = 1e-4  # how far normalised logits of repeated passes may differ


def diagnose(
    model: Any, images: Tensor, labels: Tensor, seed: int = 0, batch_size: int = 64, **more: Any
) -> EvaluatedModel:
    """The model with its examples and flags. Raises ConfigError or DataError for what cannot be evaluated."""
    with torch.no_grad():
        raw = in_batches(model, images, batch_size)
    if raw.ndim != 2 or raw.shape[1] < 2:
        raise ConfigError(
            f"Robustness checks need a classifier with logits [B, T] of at least two classes; "
            f"this model answers {list(raw.shape)}."
        )
    if int(labels.max()) >= raw.shape[1] or int(labels.min()) < 0:
        raise DataError(
            f"Labels run from {int(labels.min())} to {int(labels.max())}, but the model has {raw.shape[1]} classes."
        )
    probabilities = are_probabilities(raw)
    answer: Model = _logarithm(model) if probabilities else model
    logits = raw.clamp(min=1e-12).log() if probabilities else raw
    found = EvaluatedModel(
        model=answer,
        images=images,
        labels=labels,
        classes=raw.shape[1],
        differentiable=is_differentiable(answer, images[:1]),
        clean=~wrong(logits, labels).cpu(),
        module=model if isinstance(model, nn.Module) else None,
        seed=seed,
        batch_size=batch_size,
        **more,
    )
    _look(found, logits, probabilities)
    return found


def _look(found: EvaluatedModel, logits: Tensor, probabilities: bool) -> None:
    """NaN, probabilities, constant answers, randomness, zero gradients: each becomes a flag."""
    flags = found.flags
    lost = int((~torch.isfinite(logits).all(1)).sum())
    if lost:
        text = f"answers that are not finite on {lost} of {len(logits)} examples; they count as wrong"
        flags.append(Flag("not_finite", text))
    if probabilities:
        text = "the model answers probabilities; attacks work on their logarithm, and saturation hides gradients"
        flags.append(Flag("probabilities", text))
    answers = logits.argmax(1)
    if len(answers) > 1 and int(found.labels.unique().numel()) > 1 and int(answers.unique().numel()) == 1:
        text = f"constant: every example is answered with class {int(answers[0])}, which no attack can change"
        flags.append(Flag("constant", text))
    found.random = is_random(found)
    if found.random:
        text = "random: the same input gets different answers; attacks should average over draws"
        flags.append(Flag("random", text))
    if not found.differentiable:
        found.notes.append("the model gives no gradient, so only attacks that query it were run")
    elif (zero := zero_gradients(found)) > 0:
        found.masked = True
        count = min(int(found.clean.sum()), GRADIENT_EXAMPLES)
        text = f"zero gradients on {zero} of {count} correctly classified examples: the model may hide its gradients"
        flags.append(Flag("zero_gradients", text))


def are_probabilities(answers: Tensor) -> bool:
    """Every row inside [0, 1] and summing to 1 within 1e-5."""
    if not bool(torch.isfinite(answers).all()):
        return False
    inside = bool((answers >= -1e-6).all() and (answers <= 1 + 1e-6).all())
    return inside and bool(((answers.sum(1) - 1).abs() < 1e-5).all())


@torch.no_grad()
def is_random(found: EvaluatedModel) -> bool:
    """Do repeated passes over the same few examples differ?"""
    x = found.images[:RANDOM_EXAMPLES]
    runs = [found.model(x) for _ in range(RANDOM_RUNS)]
    scale = runs[0].norm(dim=1, keepdim=True).clamp(min=1e-12)
    for run in runs[1:]:
        moved = ((run - runs[0]) / scale).norm(dim=1)
        if bool((run.argmax(1) != runs[0].argmax(1)).any()) or bool((moved > RANDOM_DISTANCE).any()):
            return True
    return False


def zero_gradients(found: EvaluatedModel) -> int:
    """Correctly classified examples whose margin has no gradient at all with respect to the input."""
    rows = torch.nonzero(found.clean).squeeze(1)[:GRADIENT_EXAMPLES].to(found.images.device)

    def gradient(part: Tensor) -> Tensor:
        x = found.images[part].detach().requires_grad_(True)
        with torch.enable_grad():
            values = margin(found.model(x), found.labels[part])  # cross-entropy saturates to 0 where all is well
        return (input_gradient(values, x).flatten(1) == 0).all(1)

    return int(in_batches(gradient, rows, found.batch_size).sum()) if len(rows) else 0


def is_differentiable(model: Model, images: Tensor) -> bool:
    """Do gradients reach the input?"""
    x = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        values = model(x).sum()
    if not values.requires_grad:
        return False
    return torch.autograd.grad(values, x, allow_unused=True)[0] is not None


def _logarithm(model: Model) -> Model:
    def answer(images: Tensor) -> Tensor:
        return model(images).clamp(min=1e-12).log()

    return answer
