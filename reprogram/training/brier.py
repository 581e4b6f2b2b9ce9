"""Squared error of calibrated probabilities (Brier 1950): what programs are compared by when labels are few.

A few labels say more by it than by accuracy, which moves in whole steps, or by cross-entropy, whose rare large values drown
a difference; one fitted inverse temperature keeps a program that is right but too sure of itself from losing to one that is not.
"""

from __future__ import annotations

import torch
from torch import Tensor


def squash(logits: Tensor, problem: str) -> Tensor:
    """Logits as probabilities (regression: the values themselves)."""
    if problem == "regression":
        return logits
    return logits.softmax(-1) if problem == "classification" else logits.sigmoid()


def inverse_temperature(logits: Tensor, labels: Tensor, problem: str) -> float:
    """The factor on ``logits`` [N, T] that gives the least squared error; 1 for regression."""
    if problem == "regression":
        return 1.0
    factors = torch.logspace(-1.5, 1.5, 41) / float(logits.std().clamp_min(1e-6)) * 2.0
    errors = [squared_error(squash(logits * f, problem), labels, problem).mean() for f in factors.tolist()]
    return float(factors[int(torch.stack(errors).argmin())])


def squared_error(predicted: Tensor, labels: Tensor, problem: str) -> Tensor:
    """[N] squared error of probabilities [N, T] (regression: of values); missing labels do not count."""
    if problem == "classification":
        wanted = torch.nn.functional.one_hot(labels.long(), predicted.shape[-1]).float()
        return (predicted - wanted).square().sum(-1)
    wanted = labels.reshape(len(labels), -1).float()
    return (predicted - wanted).square().nanmean(-1)
