"""Simultaneous perturbation with gradient correction: BlackVIP (Oh et al. 2023, arXiv 2303.14773, eq. 4-6).

    a_k = a / (k + o)^α,  c_k = c / k^γ,  Δ_i uniform on [-1, -½] ∪ [½, 1]
    g = mean over K of (L(w + c_k Δ) - L(w - c_k Δ)) / (2 c_k Δ)          elementwise division
    m <- b m + g,   w <- w - a_k (g + b m)

k counts from 1: at k = 0 the probe c_k would be infinite. The size of g depends on the loss, the prompt and the batch, so
no a fits two targets: it is set so that the first steps move a parameter by a given amount (Spall 1998, Implementation of
the simultaneous perturbation algorithm, §III.B), from the estimates of those steps, which cost nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from reprogram.model import ReprogrammedModel
from reprogram.ranges import NotNegative, Positive, Range
from reprogram.training._zeroth_order import Losses, ZerothOrder, check_positive

CALIBRATING = 5  # steps


@dataclass
class SpsaGc(ZerothOrder):
    """pairs: K; a step costs batch · 2K queries. first_move: mean change of a parameter in the first steps, from which a
    follows; gain: a itself, where it is known. probe: c in parameter units; offset: o, alpha: α, gamma: γ, momentum: b.
    The paper's [o, c, a, α, γ] is [1, 0.01, 0.01, 0.4, 0.1], tuned again for each data set.
    """

    pairs: Annotated[int, Range(1, 100_000)] = 5
    first_move: Positive = 0.003
    gain: Positive | None = None
    probe: Positive = 0.08
    offset: NotNegative = 1.0
    alpha: Annotated[float, Range(0, 10)] = 0.4
    gamma: Annotated[float, Range(0, 10)] = 0.1
    momentum: Annotated[float, Range(0, 0.99999)] = 0.9

    def __post_init__(self) -> None:
        check_positive("training.optimiser", pairs=self.pairs, first_move=self.first_move, probe=self.probe)
        if self.gain is not None:
            check_positive("training.optimiser", gain=self.gain)

    def start(self, model: ReprogrammedModel, total_steps: int, seed: int) -> None:
        super().start(model, total_steps, seed)
        self.velocity = torch.zeros(())
        self.sizes: list[float] = []

    def move(self, losses: Losses, start: Tensor, step: int) -> tuple[Tensor, float]:
        k = step + 1
        deltas = self.deltas(len(start)).to(start.device)  # drawn on the CPU: the same search on every machine
        gradient, around = two_sided(losses, start, deltas, self.probe / k**self.gamma)
        self.velocity = self.momentum * self.velocity.to(start.device) + gradient
        gain = self.scale(gradient) / (k + self.offset) ** self.alpha
        return start - gain * (gradient + self.momentum * self.velocity), around

    def scale(self, gradient: Tensor) -> float:
        """a: given, or from the mean size of the first estimates; the velocity adds its part to the first step."""
        if self.gain is not None:
            return self.gain
        if len(self.sizes) < CALIBRATING:
            self.sizes.append(float(gradient.abs().mean()))
        size = sum(self.sizes) / len(self.sizes)
        return self.first_move * (1 + self.offset) ** self.alpha / ((1 + self.momentum) * size + 1e-12)

    def deltas(self, dimension: int) -> Tensor:
        """[K, d] of absolute value ½ to 1 and random sign: 1/Δ stays finite."""
        shape = (self.pairs, dimension)
        size = 0.5 + 0.5 * torch.rand(shape, generator=self.generator)
        sign = torch.randint(0, 2, shape, generator=self.generator) * 2 - 1
        return size * sign

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"velocity": self.velocity, "sizes": list(self.sizes)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.velocity, self.sizes = state["velocity"], list(state["sizes"])


def two_sided(losses: Losses, start: Tensor, deltas: Tensor, probe: Positive) -> tuple[Tensor, float]:
    """Gradient estimate [d] from perturbations ``deltas`` [K, d], and the mean loss of the 2K probes."""
    values = losses(torch.cat([start + probe * deltas, start - probe * deltas]))
    plus, minus = values.chunk(2)
    return ((plus - minus)[:, None] / (2 * probe * deltas)).mean(0), float(values.mean())
