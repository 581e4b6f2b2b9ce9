"""Projected gradient descent (Madry et al. 2018, arXiv 1706.06083), in linf, l2 and l1, with restarts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError, nearest
from reprogram.ranges import Count, Positive
from reprogram.robustness.attacks.base import Attack, Model, survival
from reprogram.robustness.losses import LOSSES, wrong
from reprogram.threat import ascend


@dataclass(eq=False)
class PGD(Attack):
    """steps: gradient steps of each restart. step_size: None means 2.5 eps / steps (at least enough to cross the ball).

    draws: passes averaged for each gradient, for models that answer at random (EOT, Athalye et al. 2018).
    """

    steps: Count = 20
    step_size: Positive | None = None
    restarts: Count = 1
    loss: str = "ce"
    random_start: bool = True
    draws: Count = 1

    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError(f"loss={self.loss!r} is not one that PGD raises; {nearest(self.loss, LOSSES)}.")

    @property
    def stride(self) -> float:
        """Size of a step, in the norm of the threat."""
        return 2.5 * self.threat.eps / self.steps if self.step_size is None else self.step_size

    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        best, queries = images.clone(), torch.zeros(len(images))
        rows = torch.arange(len(images), device=images.device)
        for restart in range(self.restarts):
            x, y = images[rows], labels[rows]
            counted = torch.zeros(len(rows))
            objective = self._objective(model, y, counted)
            start = self.threat.random(x, generator) if self.random_start or restart else None
            best[rows] = ascend(objective, x, self.threat, self.steps, self.stride, start)
            queries[rows.cpu()] += counted
            if restart + 1 < self.restarts:
                rows = rows[survival(model, best[rows], y, self.passes).to(rows.device) > 0.5]
                if not len(rows):
                    break
        return best, queries

    def _objective(self, model: Model, labels: Tensor, counted: Tensor):  # type: ignore[no-untyped-def]
        raised = LOSSES[self.loss]

        def objective(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            y = labels[rows]
            logits = model(x)
            values = raised(logits, y)
            for _ in range(self.draws - 1):
                values = values + raised(model(x), y)
            counted[rows.cpu()] += self.draws
            done = wrong(logits.detach(), y) if self.draws == 1 else torch.zeros_like(y, dtype=torch.bool)
            return values, done

        return objective
