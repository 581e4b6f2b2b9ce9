"""Random noise as large as the threat allows: the floor that any attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.ranges import Count
from reprogram.robustness.attacks.base import Attack, Model, ask
from reprogram.robustness.losses import wrong


@dataclass(eq=False)
class Noise(Attack):
    """draws: random points of the threat, tried one after the other; an example is broken by any of them."""

    draws: Count = 10

    access: ClassVar[str] = "label"

    @torch.no_grad()
    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        found, queries = images.clone(), torch.zeros(len(images))
        rows = torch.arange(len(images), device=images.device)
        for _ in range(self.draws):
            tried = self.threat.random(images[rows], generator)
            done = wrong(ask(model, tried), labels[rows])
            queries[rows.cpu()] += 1
            found[rows] = tried
            rows = rows[~done]
            if not len(rows):
                break
        return found, queries
