"""What is odd about a model, before any attack: what it answers, whether it is random, whether its gradients vanish."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError
from reprogram.robustness.attacks.base import Model, in_batches, refuse_labels, survival
from reprogram.robustness.attacks.bpda import hidden_by, straight_through
from reprogram.robustness.classifier import Classifier
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Flag
from reprogram.robustness.losses import margin, wrong
from reprogram.threat import input_gradient

GRADIENT_EXAMPLES = 32  # correctly classified ones whose gradient is looked at
RANDOM_EXAMPLES, RANDOM_RUNS = 8, 5  # examples, and repeated passes over them
RANDOM_DISTANCE = 1e-4  # how far normalised logits of repeated passes may differ
RANDOM_PASSES = 20  # over each example, to judge a model that answers at random
SAME_GRADIENT = 0.9  # cosine below which a gradient is another one once nothing hides it
SMALL_STEP, SMALL_STEPS = 0.01, 16  # of every pixel, up or down at random: how far and how often, to test a gradient
FORESEEN = 0.5  # correlation of what a gradient foresees with what comes, below which it does not foresee; smooth: > 0.95


def diagnose(
    model: Any, images: Tensor, labels: Tensor, seed: int = 0, batch_size: int = 64, **more: Any
) -> EvaluatedModel:
    """The model with its examples and flags. Raises ConfigError or DataError for what cannot be evaluated."""
    answer = Classifier(model)
    raw = answer.look(images, batch_size)
    if raw.ndim != 2 or raw.shape[1] < 2:
        raise ConfigError(
            f"Robustness checks need a classifier with logits [B, T] of at least two classes; "
            f"this model answers {list(raw.shape)}."
        )
    refuse_labels(labels, raw.shape[1])
    answer.logarithm = are_probabilities(raw)
    logits = raw.clamp(min=1e-12).log() if answer.logarithm else raw
    large = answer.even(logits, labels)
    right = ~wrong(logits, labels).cpu()
    found = EvaluatedModel(
        model=answer,
        images=images,
        labels=labels,
        classes=raw.shape[1],
        differentiable=is_differentiable(answer, images[:1]),
        clean=right,
        clean_rate=right.float(),
        module=model if isinstance(model, nn.Module) else None,
        seed=seed,
        batch_size=batch_size,
        **more,
    )
    _look_at_answers(found, logits, answer.logarithm, large)
    _look_at_randomness(found)
    _look_at_gradients(found)
    return found


def _look_at_answers(found: EvaluatedModel, logits: Tensor, probabilities: bool, large: bool) -> None:
    """Flags for NaN, probabilities, large logits and constant answers."""
    flags = found.flags
    lost = int((~torch.isfinite(logits).all(1)).sum())
    if lost:
        text = f"answers that are not finite on {lost} of {len(logits)} examples; they count as wrong"
        flags.append(Flag("not_finite", text))
    if probabilities:
        text = "the model answers probabilities; attacks work on their logarithm, and saturation hides gradients"
        flags.append(Flag("probabilities", text))
    if large:
        text = "logits so large that the cross-entropy and its gradient vanish; attacks work on scaled logits"
        flags.append(Flag("large_logits", text))
    answers = logits.argmax(1)
    if len(answers) > 1 and int(found.labels.unique().numel()) > 1 and int(answers.unique().numel()) == 1:
        text = f"constant: every example is answered with class {int(answers[0])}, which no attack can change"
        flags.append(Flag("constant", text))


def _look_at_randomness(found: EvaluatedModel) -> None:
    """A model that answers at random is judged by several passes over each example."""
    found.random = is_random(found)
    if not found.random:
        return
    text = (
        f"random: the same input gets different answers; attacks average over draws, and each example counts by the share "
        f"of {RANDOM_PASSES} passes that are right"
    )
    found.flags.append(Flag("random", text))
    found.passes = RANDOM_PASSES
    parts = zip(found.images.split(found.batch_size), found.labels.split(found.batch_size), strict=True)
    found.clean_rate = torch.cat([survival(found.model, x, y, RANDOM_PASSES) for x, y in parts])
    found.clean = found.clean_rate > 0.5


def _look_at_gradients(found: EvaluatedModel) -> None:
    """What hides gradients is named, and a way through it is kept for the attacks."""
    hiding = hidden_gradients(found)
    if hiding:
        found.through = straight_through(found.model)
        what = ", ".join(sorted(hiding))
        text = f"hides its gradients ({what}); attacks pass through it as if it were the identity (BPDA)"
        found.flags.append(Flag("hides_gradients", text))
    if not found.differentiable:
        if not hiding:
            found.notes.append("the model gives no gradient, so only attacks that query it were run")
            text = "no gradient, and nothing found that hides it: attacks that query it may miss what others would find"
            found.flags.append(Flag("no_gradient", text))
    elif (zero := zero_gradients(found)) > 0:
        found.masked = True
        count = min(int(found.clean.sum()), GRADIENT_EXAMPLES)
        text = f"zero gradients on {zero} of {count} correctly classified examples: the model may hide its gradients"
        found.flags.append(Flag("zero_gradients", text))
    elif not found.random and not hiding and (seen := foresight(found)) < FORESEEN:
        found.jumps = True
        text = (
            f"gradients do not foresee what small steps do (correlation {seen:.2f}): the answers jump, as with "
            "k-winners-take-all; random search gets more queries"
        )
        found.flags.append(Flag("unforeseen_jumps", text))


def foresight(found: EvaluatedModel) -> float:
    """Do small random steps change the margin as its gradient says? Median correlation over a few right examples.

    1 for a smooth model, also for one with ReLU; near 0 where the answer jumps and the gradient knows nothing of it.
    """
    rows = torch.nonzero(found.clean).squeeze(1)[:RANDOM_EXAMPLES].to(found.images.device)
    if not len(rows):
        return 1.0
    x, y = found.images[rows], found.labels[rows]
    gradient = _margin_gradient(found.model, x, y)
    generator = torch.Generator().manual_seed(found.seed)
    said, came = [], []
    with torch.no_grad():
        before = margin(found.model(x), y)
        for _ in range(SMALL_STEPS):
            signs = 2 * torch.randint(0, 2, x.shape, generator=generator).to(x) - 1
            moved = (x + SMALL_STEP * signs).clamp(0, 1)
            said.append((gradient * (moved - x)).flatten(1).sum(1))
            came.append(margin(found.model(moved), y) - before)
    both = [values - values.mean(0) for values in (torch.stack(said).double(), torch.stack(came).double())]
    lengths = (both[0].norm(dim=0) * both[1].norm(dim=0)).clamp(min=1e-30)
    return float(((both[0] * both[1]).sum(0) / lengths).median())


def hidden_gradients(found: EvaluatedModel) -> set[str]:
    """Names of what hides this model's gradients: empty where they are the same without it, or where none comes through."""
    x, y = found.images[:RANDOM_EXAMPLES], found.labels[:RANDOM_EXAMPLES]
    try:
        met, opened = hidden_by(found.model, x), straight_through(found.model)
        if not met or not is_differentiable(opened, x[:1]):
            return set()
        through = _margin_gradient(opened, x, y)
        if not found.differentiable:
            return met
        plain = _margin_gradient(found.model, x, y)
    except (RuntimeError, TypeError, ValueError):  # a model that does not stand floating point where it made integers
        return set()
    alike = torch.nn.functional.cosine_similarity(plain.flatten(1), through.flatten(1)) >= SAME_GRADIENT
    return set() if bool(alike.all()) or not bool(through.any()) or found.random else met


def _margin_gradient(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient [N, C, H, W] of the margin with respect to the input; 0 where there is none."""
    x = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        values = margin(model(x), labels)  # cross-entropy saturates to 0 where all is well
    return input_gradient(values, x)


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
        return (_margin_gradient(found.model, found.images[part], found.labels[part]).flatten(1) == 0).all(1)

    return int(in_batches(gradient, rows, found.batch_size).sum()) if len(rows) else 0


def is_differentiable(model: Model, images: Tensor) -> bool:
    """Do gradients reach the input? A model that refuses an input with a gradient, as NumPy does, gives none."""
    x = images.detach().clone().requires_grad_(True)
    try:
        with torch.enable_grad():
            values = model(x).sum()
    except RuntimeError:
        return False
    if not values.requires_grad:
        return False
    return torch.autograd.grad(values, x, allow_unused=True)[0] is not None
