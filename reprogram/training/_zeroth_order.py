"""What strategies share that only see losses: a flat parameter vector, one batched request a step, a falling rate.

The free coordinates are the program's parameters and nothing else: a frame has no coordinates under the image, so no
direction is wasted on what cannot matter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from reprogram.errors import ConfigError
from reprogram.model import ReprogrammedModel
from reprogram.training.base import BatchLoss, Optimiser, trainable

Losses = Callable[[Tensor], Tensor]  # candidates [q, d] -> losses [q], float32, all of them one request


@dataclass
class ZerothOrder(Optimiser):
    """A subclass says how a vector moves (:meth:`move`); nothing here can reach a gradient."""

    sees_losses_only: ClassVar[bool] = True

    def start(self, model: ReprogrammedModel, total_steps: int, seed: int) -> None:
        super().start(model, total_steps, seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.dimension = sum(p.numel() for p in trainable(model))

    @abstractmethod
    def move(self, losses: Losses, start: Tensor, step: int) -> tuple[Tensor, float]:
        """New vector [d] and the loss at (or around) the old one."""

    @torch.no_grad()
    def step(self, problem: BatchLoss, step: int) -> float:
        start = parameters_to_vector(problem.parameters)
        moved, loss = self.move(problem.losses, start, step)
        vector_to_parameters(moved, problem.parameters)
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])

    def random(self, *shape: int) -> Tensor:
        """Standard normal numbers, drawn on the CPU: the same on every machine."""
        return torch.randn(shape, generator=self.generator)

    def falling(self, rate: float, step: int) -> float:
        """``rate`` (1 - step/steps)^0.9, not below 1% of it (the schedule of BlackVIP's port of BAR)."""
        return rate * max(0.01, (1 - step / self.total_steps) ** 0.9)


def check_positive(prefix: str, **values: float) -> None:
    """Raise ConfigError naming the first value that is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{prefix}.{name}={value} must be above 0.")
