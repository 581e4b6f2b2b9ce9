"""QMO: zeroth-order search in the memory of a frozen encoder-decoder (Hoffman et al. 2022, arXiv 2011.01921).

The molecule is the latent z; the decoder writes it greedily; the objective sees only what was written. Nothing of the
frozen model is differentiated or changed.

    loss(z) = -score(decode(z)) + penalty * violation(decode(z))                                  (constraint + score form)
    grad(z) = (d / (beta Q)) sum_q [loss(z + beta u_q) - loss(z)] u_q,  u_q uniform on the sphere  (Eq. 4)

Lengths are in units of the memory's own standard deviation, because beta, step and clamp of the paper belong to a
latent in [-1, 1]: there, beta = 10 along a unit vector in 512 dimensions moves a coordinate by 0.44; here ``beta`` is
that movement of a coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from molecules.constraints import Similar
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.base import Search
from molecules.spaces.base import Memory, Space, checked_decoder
from reprogram.errors import ConfigError, DataError, nearest
from reprogram.ranges import Count, NotNegative, Positive, Range

METHODS = ("adam", "gd", "sign")
EMPTY_RESTARTS = 20  # in a row that evaluate nothing new before a start is given up


@dataclass
class Latent(Search):
    """Several starts take turns, one step each.

    space: frozen encoder-decoder. method: ``adam``, ``gd`` (step falls with sqrt(1 - t/T)) or ``sign``.
    directions: Q. iterations: T, of one restart; restarts follow until the budget is spent.
    beta: movement of a coordinate by a probe. rate: step. clamp: largest movement of a coordinate from the start.
    penalty: weight of constraint violations. invalid: what a string that is no molecule scores below the start.
    """

    space: Space
    method: str = "adam"
    directions: Annotated[int, Range(1, 100_000)] = 20
    iterations: Count = 20
    beta: Positive = 1.0
    rate: Positive = 0.1
    clamp: Positive = 2.0
    penalty: NotNegative = 1.0
    invalid: NotNegative = 0.1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"search.method is '{self.method}'; {nearest(self.method, METHODS)}.")
        if self.directions < 1 or self.iterations < 1:
            raise ConfigError("search.directions and search.iterations must be at least 1.")

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        walks = [self._walk(evaluator, s, rng) for s in readable(self.space, start)]
        while walks:
            walks = [walk for walk in walks if next(walk, None) is not None]

    def _walk(self, evaluator: Evaluator, start: Scored, rng: np.random.Generator) -> Iterator[bool]:
        """Restarts from one molecule; yields after every step."""
        memory = self.space.encode([start.smiles])
        unit = memory.states.std()
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        shape, d = memory.states.shape, memory.states.numel()
        radius = self.beta * math.sqrt(d)
        idle = 0
        while idle < EMPTY_RESTARTS:
            before = len(evaluator.calls)
            z, mover = torch.zeros(d), Mover(self.method, self.rate, self.iterations)
            for _ in range(self.iterations):
                directions = sphere(self.directions, d, generator)
                points = torch.cat([z[None], z + radius * directions])
                shifted = Memory(
                    memory.states + unit * points.view(-1, *shape[1:]), memory.mask.expand(len(points), -1)
                )
                losses = self.losses(evaluator, start, self.space.decode(shifted).smiles)
                z = mover(z, estimate(losses, directions, radius)).clamp(-self.clamp, self.clamp)
                yield True
            idle = idle + 1 if len(evaluator.calls) == before else 0

    def losses(self, evaluator: Evaluator, start: Scored, written: Sequence[str | None]) -> Tensor:
        """[N] losses of decoded strings; new molecules among them are evaluated.

        As in the paper's code, an invalid string has the start's score less ``invalid`` and similarity 0.
        """
        scored = evaluator.score([text or "" for text in written], [start.smiles] * len(written))
        floor = 0.0 if math.isnan(start.score) else start.score
        unlike = sum(c.threshold for c in evaluator.objective.constraints.items if isinstance(c, Similar))
        values = [
            -(floor - self.invalid) + self.penalty * unlike
            if math.isnan(s.score)
            else -s.score + self.penalty * s.violation
            for s in scored
        ]
        return torch.tensor(values)


def readable(space: Space, start: Sequence[Scored]) -> list[Scored]:
    """The start molecules that the space has tokens for; raises DataError, naming the first, when there is none."""
    checked_decoder(space)
    found = [s for s in start if space.unreadable(s.smiles) is None]
    if not found:
        raise DataError(
            f"{space.name} cannot read any start molecule; the first, '{start[0].smiles}', "
            f"{space.unreadable(start[0].smiles)}."
        )
    return found


def sphere(count: int, d: int, generator: torch.Generator) -> Tensor:
    """[count, d] directions, uniform on the unit sphere."""
    normal = torch.randn(count, d, generator=generator)
    return normal / normal.norm(dim=1, keepdim=True)


def estimate(losses: Tensor, directions: Tensor, radius: float) -> Tensor:
    """Eq. 4: losses [1 + Q] at z and at z + radius * directions [Q, d] -> gradient [d]."""
    count, d = directions.shape
    return d / (radius * count) * ((losses[1:] - losses[0]) @ directions)


class Mover:
    """One step against the gradient; state of one restart."""

    def __init__(self, method: str, rate: Positive, steps: int) -> None:
        self.method, self.rate, self.steps, self.done = method, rate, steps, 0
        self.mean = self.square = torch.zeros(())

    def __call__(self, z: Tensor, gradient: Tensor) -> Tensor:
        self.done += 1
        if self.method == "gd":
            return z - self.rate * math.sqrt(max(0.0, 1 - (self.done - 1) / self.steps)) * gradient
        if self.method == "sign":
            return z - self.rate * gradient.sign()
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean, square = self.mean / (1 - 0.9**self.done), self.square / (1 - 0.999**self.done)
        return z - self.rate * mean / (square.sqrt() + 1e-8)
