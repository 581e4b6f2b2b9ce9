"""Gradients through the frozen source: Adam, AdamW or SGD with a schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from reprogram.errors import ConfigError, nearest
from reprogram.model import ReprogrammedModel
from reprogram.ranges import NotNegative, Positive, Range, Share
from reprogram.training.base import BatchLoss, Optimiser, trainable

METHODS = {
    "adam": lambda parameters, rate, decay, momentum: torch.optim.Adam(parameters, rate, weight_decay=decay),
    "adamw": lambda parameters, rate, decay, momentum: torch.optim.AdamW(parameters, rate, weight_decay=decay),
    "sgd": lambda parameters, rate, decay, momentum: torch.optim.SGD(
        parameters, rate, momentum=momentum, weight_decay=decay
    ),
}


@dataclass
class Backpropagation(Optimiser):
    """One gradient step a batch.

    method: ``adam``, ``adamw`` or ``sgd``. schedule: ``constant``, ``cosine`` (to zero), ``linear`` (to zero) or
    ``steps`` (x 0.1 at each of ``milestones``, given as shares of the run, e.g. ILM-VP's 0.5 and 0.72).
    """

    method: str = "adam"
    learning_rate: Positive = 0.01
    weight_decay: NotNegative = 0.0
    momentum: Annotated[float, Range(0, 0.99999)] = 0.9
    schedule: str = "cosine"
    milestones: tuple[Share, ...] = (0.5, 0.72)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"training.optimiser.method={self.method} is unknown; {nearest(self.method, METHODS)}")
        schedules = ("constant", "cosine", "linear", "steps")
        if self.schedule not in schedules:
            hint = nearest(self.schedule, schedules)
            raise ConfigError(f"training.optimiser.schedule={self.schedule} is unknown; {hint}")
        if not self.learning_rate > 0:
            raise ConfigError(f"training.optimiser.learning_rate={self.learning_rate} must be above 0.")

    def start(self, model: ReprogrammedModel, total_steps: int, seed: int) -> None:
        super().start(model, total_steps, seed)
        build = METHODS[self.method]
        self._torch = build(trainable(model), self.learning_rate, self.weight_decay, self.momentum)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        done = min(step / self.total_steps, 1.0)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        if self.schedule == "linear":
            return self.learning_rate * (1 - done)
        if self.schedule == "steps":
            return self.learning_rate * 0.1 ** sum(done >= m for m in self.milestones)
        return self.learning_rate

    def step(self, problem: BatchLoss, step: int) -> float:
        for group in self._torch.param_groups:
            group["lr"] = self.rate(step)
        self._torch.zero_grad(set_to_none=True)
        loss = problem.loss()
        loss.backward()
        problem.reduce_gradients()
        self._torch.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        return self._torch.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._torch.load_state_dict(state)
