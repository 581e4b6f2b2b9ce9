"""Momentum iterative FGSM (Dong et al. 2018, arXiv 1710.06081, algorithm 1): the steps follow a running mean of gradients.

It breaks fewer examples than PGD of the model it is made on, and its examples transfer better to others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.errors import ConfigError, nearest
from reprogram.ranges import Count, NotNegative
from reprogram.robustness.attacks.base import Attack, Model
from reprogram.robustness.losses import LOSSES, wrong
from reprogram.threat import input_gradient


@dataclass(eq=False)
class MIFGSM(Attack):
    """steps: each eps / steps long. decay: share of the momentum that a step keeps (mu of the paper)."""

    steps: Count = 10
    decay: NotNegative = 1.0
    loss: str = "ce"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError(f"loss={self.loss!r} is not one that MI-FGSM raises; {nearest(self.loss, LOSSES)}.")
        if not self.decay >= 0:
            raise ConfigError(f"decay={self.decay} of MI-FGSM must be 0 or more.")

    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        found, queries = images.clone(), torch.zeros(len(images))
        x0, y, x, rows = images, labels, images.clone(), torch.arange(len(images), device=images.device)
        momentum = torch.zeros_like(images)
        for _ in range(self.steps):
            point = x.detach().requires_grad_(True)
            with torch.enable_grad():
                logits = model(point)
                values = LOSSES[self.loss](logits, y)
            gradient = input_gradient(values, point)
            queries[rows.cpu()] += 1
            left = ~wrong(logits.detach(), y)
            found[rows] = x
            x0, y, x, rows, momentum, gradient = (part[left] for part in (x0, y, x, rows, momentum, gradient))
            if not len(rows):
                return found, queries
            size = gradient.flatten(1).abs().sum(1).clamp(min=1e-12).view(-1, *[1] * (x.ndim - 1))
            momentum = self.decay * momentum + gradient / size
            step = self.threat.eps / self.steps * self.threat.steepest(x, momentum)
            x = self.threat.project(x0, x + step)
        found[rows] = x
        return found, queries
