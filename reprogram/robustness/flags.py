"""Signs that a robustness figure should not be believed, from comparing attacks with one another.

After AutoAttack's checks (Croce & Hein 2020, ``flags_doc.md``) and the checklist of Carlini et al. 2019
(arXiv 1902.06705, section 3). Signs that need no attack are in :mod:`reprogram.robustness.diagnose`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from reprogram.evaluation.metrics import wilson
from reprogram.plain import counted
from reprogram.robustness.findings import Flag

GAIN = 0.02  # accuracy that more work may still win before it counts as a sign of too little work


def black_box_beats_white_box(white: Mapping[str, Tensor], black: Mapping[str, Tensor]) -> Flag | None:
    """Broken masks [N] by attack: an attack that only queries must not find what gradients miss."""
    if not white or not black:
        return None
    seen = torch.stack(list(white.values())).any(0)
    for name, broken in black.items():
        missed = int((broken & ~seen).sum())
        if missed / len(broken) > 0.002:
            found = counted(missed, "example")
            text = f"{name}, which only queries the model, breaks {found} that gradients miss: masked gradients"
            return Flag("black_box_beats_white_box", text)
    return None


def single_step_beats_iterative(single: Tensor, iterative: Tensor) -> Flag | None:
    """Broken masks [N] of FGSM and PGD."""
    if float(single.float().mean()) > float(iterative.float().mean()):
        text = "one gradient step breaks more than many: the loss surface is masked or the steps are badly chosen"
        return Flag("single_step_beats_iterative", text)
    return None


def more_steps_help(shorter: Tensor, longer: Tensor) -> Flag | None:
    """Broken masks [N] of an attack and of the same with twice the steps; no matter once nothing is left to break."""
    if bool(longer.all()):
        return None
    gain = float(longer.float().mean() - shorter.float().mean())
    if gain > GAIN:
        return Flag("more_steps_help", f"doubling the steps still breaks {gain:.1%} more: the attack has not converged")
    return None


def not_monotone(curve: Mapping[float, Tensor]) -> Flag | None:
    """Broken masks [N] by eps: a larger perturbation must not break fewer (one example of luck allowed)."""
    sizes = sorted(curve)
    for small, large in pairwise(sizes):
        fewer = int(curve[small].sum()) - int(curve[large].sum())
        if fewer > max(1, GAIN * len(curve[small])):
            text = f"not monotone: eps={large:.3g} breaks {counted(fewer, 'example')} fewer than eps={small:.3g}"
            return Flag("not_monotone", text)
    return None


def not_reaching_chance(curve: Mapping[float, Tensor], classes: int) -> Flag | None:
    """Broken masks [N] by eps: at the largest, accuracy must not stay above that of a guess."""
    largest = max(curve)
    left = int((~curve[largest]).sum())
    if (wilson(left, len(curve[largest]))["low"] or 0) > 1 / classes:
        share = left / len(curve[largest])
        text = f"accuracy is still {share:.0%} at eps={largest:.3g}, where an image can become any other: masked gradients"
        return Flag("not_reaching_chance", text)
    return None


def missed_by_gradients(white: Mapping[str, Tensor], straight_through: Tensor) -> Flag | None:
    """Broken masks [N]: what BPDA breaks and plain gradients miss."""
    seen = torch.stack(list(white.values())).any(0) if white else torch.zeros_like(straight_through)
    hidden = int((straight_through & ~seen).sum())
    if hidden:
        text = f"BPDA breaks {counted(hidden, 'example')} that plain gradients miss: the model hides its gradients"
        return Flag("missed_by_gradients", text)
    return None
