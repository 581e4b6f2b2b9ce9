"""Transfer: perturbations crafted on another model (the bare source, another program) and tried on this one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.ranges import Count
from reprogram.robustness.attacks.base import Attack, Attacked, Model, ask
from reprogram.robustness.losses import cross_entropy, stays
from reprogram.threat import ascend


@dataclass(eq=False)
class Transfer(Attack):
    """surrogate: images -> logits over its own labels; it is led away from its own answers, so no labels are needed."""

    surrogate: Model | None = None
    steps: Count = 20

    access: ClassVar[str] = "none"
    takes: ClassVar[dict[str, str]] = {"surrogate": "source"}
    requires: ClassVar[tuple[str, ...]] = ("source",)

    def __call__(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        advance: Callable[[int], Any] | None = None,
        right: Tensor | None = None,
    ) -> Attacked:
        if self.surrogate is None:
            raise ConfigError("transfer needs surrogate=, the model that perturbations are crafted on.")
        return super().__call__(model, images, labels, advance, right)

    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | int]:
        surrogate = self.surrogate
        assert surrogate is not None
        own = ask(surrogate, images).argmax(1)

        def objective(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            logits = surrogate(x)
            return cross_entropy(logits, own[rows]), stays(logits, own)

        start = self.threat.random(images, generator)
        return ascend(objective, images, self.threat, self.steps, 2.5 * self.threat.eps / self.steps, start), 0
