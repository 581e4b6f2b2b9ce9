"""What an attack raises: values [B] that grow as a model's answer turns away from the label.

Logits are [B, T], labels [B]. Two and three classes are common targets, where the difference-of-logits ratio does not
exist; the margin takes its place there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as _cross_entropy

Loss = Callable[[Tensor, Tensor], Tensor]


def wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """True where the answer is not the label; an answer that is not finite is no answer."""
    return (logits.argmax(1) != labels) | ~torch.isfinite(logits).all(1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """[B, T] logits and [B] labels -> [B]."""
    return _cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Best other logit minus the label's: positive exactly where the answer is wrong (Carlini & Wagner 2017)."""
    label = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return others.amax(1) - label


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020, arXiv 2003.01690, eq. 6); the margin for two classes."""
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted(wanted: Tensor) -> Loss:
    """Targeted DLR (eq. 7) towards the classes ``wanted`` [B]; the targeted margin for two and three classes."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        gap = logits.gather(1, wanted[:, None]).squeeze(1) - logits.gather(1, labels[:, None]).squeeze(1)
        if logits.shape[1] < 4:
            return gap
        top = logits.topk(4, dim=1).values
        return gap / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)

    return loss


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}


def stays(logits: Tensor, labels: Tensor) -> Tensor:
    """All False: for attacks that never stop early."""
    return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
