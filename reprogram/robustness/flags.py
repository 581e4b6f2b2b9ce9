"""Sanity flags: signs that a robustness figure should not be believed.

After AutoAttack's checks (Croce & Hein 2020, ``flags_doc.md``) and the checklist of Carlini et al. 2019
(arXiv 1902.06705, section 3). Each flag is one plain sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reprogram.evaluation.metrics import wilson
from reprogram.robustness.attacks.base import in_batches
from reprogram.robustness.losses import margin
from reprogram.threat import input_gradient

if TYPE_CHECKING:
    from reprogram.robustness.subject import Subject

GRADIENT_EXAMPLES = 32  # rightly answered ones whose gradient is looked at
RANDOM_EXAMPLES, RANDOM_RUNS, RANDOM_DISTANCE = (
    8,
    5,
    1e-4,
)  # repeated passes, and how far their normalised logits may differ
GAIN = 0.02  # accuracy that more work may still win before it counts as a sign of too little work


def before(subject: Subject, logits: Tensor, probabilities: bool) -> list[str]:
    """Flags that need no attack: NaN, probabilities, constant answers, randomness, zero gradients."""
    raised = []
    lost = int((~torch.isfinite(logits).all(1)).sum())
    if lost:
        raised.append(f"answers that are not finite on {lost} of {len(logits)} examples; they count as wrong")
    if probabilities:
        raised.append(
            "the model answers probabilities; attacks work on their logarithm, and saturation hides gradients"
        )
    answers = logits.argmax(1)
    if len(answers) > 1 and int(subject.labels.unique().numel()) > 1 and int(answers.unique().numel()) == 1:
        raised.append(f"constant: every example is answered with class {int(answers[0])}, which no attack can change")
    if is_random(subject):
        raised.append("random: the same input gets different answers; attacks should average over draws")
    if not subject.differentiable:
        subject.notes.append("the model gives no gradient, so only attacks that ask it were run")
    elif (zero := zero_gradients(subject)) > 0:
        raised.append(
            f"zero gradients on {zero} of {min(int(subject.clean.sum()), GRADIENT_EXAMPLES)} examples that are answered rightly: "
            "the model may hide its gradients"
        )
    return raised


def are_probabilities(answers: Tensor) -> bool:
    """Every row inside [0, 1] and summing to 1 within 1e-5."""
    if not bool(torch.isfinite(answers).all()):
        return False
    inside = bool((answers >= -1e-6).all() and (answers <= 1 + 1e-6).all())
    return inside and bool(((answers.sum(1) - 1).abs() < 1e-5).all())


@torch.no_grad()
def is_random(subject: Subject) -> bool:
    """Do repeated passes over the same few examples differ?"""
    x = subject.images[:RANDOM_EXAMPLES]
    runs = [subject.model(x) for _ in range(RANDOM_RUNS)]
    scale = runs[0].norm(dim=1, keepdim=True).clamp(min=1e-12)
    for run in runs[1:]:
        moved = ((run - runs[0]) / scale).norm(dim=1)
        if bool((run.argmax(1) != runs[0].argmax(1)).any()) or bool((moved > RANDOM_DISTANCE).any()):
            return True
    return False


def zero_gradients(subject: Subject) -> int:
    """Rightly answered examples whose margin has no gradient at all with respect to the input."""
    rows = torch.nonzero(subject.clean).squeeze(1)[:GRADIENT_EXAMPLES].to(subject.images.device)

    def gradient(part: Tensor) -> Tensor:
        x = subject.images[part].detach().requires_grad_(True)
        with torch.enable_grad():
            values = margin(subject.model(x), subject.labels[part])  # cross-entropy saturates to 0 where all is well
        return (input_gradient(values, x).flatten(1) == 0).all(1)

    return int(in_batches(gradient, rows, subject.batch_size).sum()) if len(rows) else 0


def blackbox_beats_whitebox(white: Mapping[str, Tensor], black: Mapping[str, Tensor]) -> str | None:
    """Broken masks [N] by attack: an attack that only asks must not find what gradients miss."""
    if not white or not black:
        return None
    seen = torch.stack(list(white.values())).any(0)
    for name, broken in black.items():
        missed = int((broken & ~seen).sum())
        if missed / len(broken) > 0.002:
            return f"{name}, which only asks the model, breaks {missed} examples that gradients miss: masked gradients"
    return None


def single_step_beats_iterative(single: Tensor, iterative: Tensor) -> str | None:
    """Broken masks [N] of FGSM and PGD."""
    if float(single.float().mean()) > float(iterative.float().mean()):
        return "one gradient step breaks more than many: the loss surface is masked or the steps are badly chosen"
    return None


def more_steps_help(shorter: Tensor, longer: Tensor) -> str | None:
    """Broken masks [N] of an attack and of the same with twice the steps; no matter once nothing is left to break."""
    if bool(longer.all()):
        return None
    gain = float(longer.float().mean() - shorter.float().mean())
    return f"doubling the steps still breaks {gain:.1%} more: the attack has not converged" if gain > GAIN else None


def not_monotone(curve: Mapping[float, Tensor]) -> str | None:
    """Broken masks [N] by eps: a larger perturbation must not break fewer (one example of luck allowed)."""
    sizes = sorted(curve)
    for small, large in pairwise(sizes):
        fewer = int(curve[small].sum()) - int(curve[large].sum())
        if fewer > max(1, GAIN * len(curve[small])):
            return f"not monotone: eps={large:.3g} breaks {fewer} examples fewer than eps={small:.3g}"
    return None


def not_reaching_chance(curve: Mapping[float, Tensor], classes: int) -> str | None:
    """Broken masks [N] by eps: at the largest, accuracy must not stay above that of a guess."""
    largest = max(curve)
    left = int((~curve[largest]).sum())
    if (wilson(left, len(curve[largest]))["low"] or 0) > 1 / classes:
        share = left / len(curve[largest])
        return (
            f"accuracy is still {share:.0%} at eps={largest:.3g}, where an image can become any other: masked gradients"
        )
    return None
