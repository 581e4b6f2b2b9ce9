"""An attack: a checkerboard as strong as the threat allows, in both signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.robustness.attacks.base import Attack, Model, ask
from reprogram.robustness.losses import wrong


@dataclass(eq=False)
class Checkerboard(Attack):
    """cell: side of a square in pixels."""

    cell: int = 1

    norms: ClassVar[tuple[str, ...]] = ("linf",)
    access: ClassVar[str] = "label"

    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | int]:
        rows, columns = (torch.arange(side) // self.cell for side in images.shape[-2:])
        board = 1.0 - 2.0 * ((rows[:, None] + columns[None]) % 2)
        first, second = (self.threat.project(images, images + s * self.threat.eps * board) for s in (1, -1))
        broken = wrong(ask(model, first), labels).view(-1, 1, 1, 1)
        return torch.where(broken, first, second), 2
