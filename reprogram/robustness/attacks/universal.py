"""Universal perturbation (Moosavi-Dezfooli et al. 2017, arXiv 1610.08401): one for all inputs, a counter-program.

Found by projected gradient ascent on the mean loss of crafting examples (Shafahi et al. 2020, arXiv 1811.11304).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from reprogram.ranges import Count, Positive
from reprogram.robustness.attacks.base import Attack, Attacked, Model
from reprogram.robustness.losses import cross_entropy
from reprogram.threat import Threat, input_gradient


@dataclass(eq=False)
class Universal(Attack):
    """epochs: passes over the crafting examples. clip: loss of one example counts up to this, so none dominates.

    ``craft``: examples (images, labels) to learn from; without them the even rows, and only odd rows are then unseen.
    """

    epochs: Count = 10
    clip: Positive = 9.0
    craft: tuple[Tensor, Tensor] | None = None

    takes: ClassVar[dict[str, str]] = {"craft": "train"}

    @property
    def crafts_on_even_rows(self) -> bool:  # type: ignore[override]
        """Is the perturbation made from every second example, and measured on the others?"""
        return self.craft is None

    def __call__(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        advance: Callable[[int], Any] | None = None,
        right: Tensor | None = None,
    ) -> Attacked:
        crafting = (images[::2], labels[::2]) if self.craft is None else self.craft
        self._delta = self.learn(model, *crafting)
        return super().__call__(model, images, labels, advance, right)

    def learn(self, model: Model, images: Tensor, labels: Tensor) -> Tensor:
        """The perturbation [1, C, H, W], inside the ball (each image cuts it to its own range)."""
        generator = torch.Generator().manual_seed(self.seed)
        width = self.threat.high - self.threat.low
        ball = Threat(self.threat.norm, self.threat.eps, -width, width)
        delta = torch.zeros_like(images[:1])
        for epoch in range(self.epochs):
            step = self.threat.eps / 4 * (1 - epoch / self.epochs)
            for rows in torch.randperm(len(images), generator=generator).split(self.batch_size):
                point = delta.clone().requires_grad_(True)
                with torch.enable_grad():
                    x = (images[rows] + point).clamp(self.threat.low, self.threat.high)
                    values = cross_entropy(model(x), labels[rows]).clamp(max=self.clip)
                move = self.threat.steepest(delta, input_gradient(values, point))
                delta = ball.project(torch.zeros_like(delta), delta + step * move)
        return delta

    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | int]:
        return (images + self._delta).clamp(self.threat.low, self.threat.high), 0
