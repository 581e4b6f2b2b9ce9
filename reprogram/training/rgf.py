"""Random gradient-free descent with one-sided averaged differences: BAR (Tsai et al. 2020, arXiv 2007.08714, eq. 6-7).

    g_j = d (f(w + βu_j) - f(w)) / β · u_j,   u_j uniform on the unit sphere,   g = mean_j g_j

All q + 1 losses of a step share one mini-batch and one request. (The released code applies the white-box gradient
instead; see ``tests/training/test_zeroth_order.py``.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from reprogram.model import ReprogrammedModel
from reprogram.ranges import Positive, Range
from reprogram.training._zeroth_order import Losses, ZerothOrder, check_positive


@dataclass
class RandomGradientFree(ZerothOrder):
    """directions: q; a step costs batch · (q + 1) queries. smoothing: length β of a probe, in parameter units.

    learning_rate: Adam's rate on the averaged estimate, falling to 1%; Adam, as BAR's authors use, makes the rate
    independent of the loss's scale.
    """

    directions: Annotated[int, Range(1, 100_000)] = 10
    smoothing: Positive = 1.0
    learning_rate: Positive = 0.02

    def __post_init__(self) -> None:
        check_positive(
            "training.optimiser",
            directions=self.directions,
            smoothing=self.smoothing,
            learning_rate=self.learning_rate,
        )

    def start(self, model: ReprogrammedModel, total_steps: int, seed: int) -> None:
        super().start(model, total_steps, seed)
        self.mean = self.square = torch.zeros(())

    def move(self, losses: Losses, start: Tensor, step: int) -> tuple[Tensor, float]:
        probes = self.random(self.directions, len(start)).to(start.device)
        gradient, base = one_sided(losses, start, probes, self.smoothing)
        self.mean = 0.9 * self.mean.to(start.device) + 0.1 * gradient
        self.square = 0.99 * self.square.to(start.device) + 0.01 * gradient.square()
        mean, square = self.mean / (1 - 0.9 ** (step + 1)), self.square / (1 - 0.99 ** (step + 1))
        return start - self.falling(self.learning_rate, step) * mean / (square.sqrt() + 1e-12), base

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"mean": self.mean, "square": self.square}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.mean, self.square = state["mean"], state["square"]


def one_sided(losses: Losses, start: Tensor, probes: Tensor, smoothing: Positive) -> tuple[Tensor, float]:
    """Gradient estimate [d] from ``probes`` [q, d] of any length, and the loss at ``start``.

    Unbiased for the gradient of the smoothed loss; its cosine with the gradient of a linear loss is about
    sqrt(q / (q + d - 1)).
    """
    units = probes / probes.norm(dim=1, keepdim=True)
    values = losses(torch.cat([start[None], start + smoothing * units]))
    slopes = (values[1:] - values[0]) / smoothing
    return len(start) * (slopes[:, None] * units).mean(0), float(values[0])
