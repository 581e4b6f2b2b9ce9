"""HopSkipJump (Chen et al. 2020, arXiv 1904.02144): reads only the decision; l2 and linf; finds small perturbations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.ranges import Count
from reprogram.robustness.attacks.base import Attack, Model, ask
from reprogram.robustness.losses import wrong


@dataclass(eq=False)
class HopSkipJump(Attack):
    """steps: jumps. directions: random directions asked at the first jump (grows with the square root of the jump).

    most: directions asked at most. trials: random images tried as a start. Everything stays in float32.
    """

    steps: Count = 20
    directions: Count = 100
    most: int = 1000
    trials: int = 100

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    access: ClassVar[str] = "label"

    def __post_init__(self) -> None:
        if self.threat.norm == "l1":
            raise ConfigError("hopskipjump has no l1 version; allowed: l2, linf.")

    @torch.no_grad()
    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return self.closest(model, images, labels, generator, stop=self.threat.eps)

    @torch.no_grad()
    def closest(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator, stop: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Nearest wrong points found [B, ...] (the image itself where no start was found) and queries [B].

        Examples closer than ``stop`` are not improved any further.
        """
        queries = torch.zeros(len(images))
        x, found = self._start(model, images, labels, generator, queries)
        rows = torch.nonzero(found).squeeze(1)
        x[rows] = self._to_boundary(model, images[rows], x[rows], labels[rows], queries, rows)
        for jump in range(1, self.steps + 1):
            rows = rows[self.threat.distance(images[rows], x[rows]) > stop]
            if not len(rows):
                break
            x0, y, at = images[rows], labels[rows], x[rows]
            far = self.threat.distance(x0, at)
            direction = self._gradient(model, x0, at, y, far, jump, generator)
            queries[rows.cpu()] += self._count(jump)
            at = self._leap(model, at, y, direction, far / math.sqrt(jump), queries, rows)
            at = self._to_boundary(model, x0, at, y, queries, rows)
            closer = self.threat.distance(x0, at) < far
            x[rows] = torch.where(_wide(closer, at), at, x[rows])
        return x, queries

    def _count(self, jump: int) -> int:
        return min(int(self.directions * math.sqrt(jump)), self.most)

    def _start(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator, queries: Tensor
    ) -> tuple[Tensor, Tensor]:
        x, found = images.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)
        low, high = self.threat.low, self.threat.high
        for _ in range(self.trials):
            rows = torch.nonzero(~found).squeeze(1)
            if not len(rows):
                break
            tried = low + (high - low) * torch.rand(images[rows].shape, generator=generator).to(images)
            ok = wrong(ask(model, tried), labels[rows])
            queries[rows.cpu()] += 1
            x[rows[ok]] = tried[ok]
            found[rows[ok]] = True
        return x, found

    def _blend(self, x0: Tensor, x: Tensor, share: Tensor) -> Tensor:
        """Between the image (0) and the wrong point (1): a segment for l2, a shrinking box for linf."""
        if self.threat.norm == "l2":
            return x0 + _wide(share, x0) * (x - x0)
        box = _wide(share, x0)
        return torch.minimum(torch.maximum(x, x0 - box), x0 + box)

    def _to_boundary(
        self, model: Model, x0: Tensor, x: Tensor, labels: Tensor, queries: Tensor, rows: Tensor
    ) -> Tensor:
        """Bisection between image and wrong point; the wrong side is returned."""
        size = x0[0].numel() if len(x0) else 1
        high = torch.ones(len(x0), device=x0.device)
        tolerance = 1 / size**1.5
        if self.threat.norm == "linf":
            high = self.threat.distance(x0, x)
            tolerance = 1 / size**2
        low = torch.zeros_like(high)
        for _ in range(min(math.ceil(math.log2(1 / tolerance)), 20)):
            middle = (low + high) / 2
            is_wrong = wrong(ask(model, self._blend(x0, x, middle)), labels)
            low, high = torch.where(is_wrong, low, middle), torch.where(is_wrong, middle, high)
            queries[rows.cpu()] += 1
        return self._blend(x0, x, high)

    def _gradient(
        self, model: Model, x0: Tensor, x: Tensor, labels: Tensor, far: Tensor, jump: int, generator: torch.Generator
    ) -> Tensor:
        """Monte Carlo estimate of the direction that leads away from the label, of unit length (eq. 10 and 16)."""
        size, count = x[0].numel(), self._count(jump)
        width = far / size if self.threat.norm == "l2" else far / size**0.5
        if jump == 1:
            width = torch.full_like(far, 0.1 * (self.threat.high - self.threat.low))
        signs, moves, done = [], [], 0
        while done < count:
            part = min(max(self.batch_size // len(x), 1), count - done)
            u = torch.randn((len(x), part, size), generator=generator).to(x)
            if self.threat.norm == "linf":
                u = (2 * torch.rand((len(x), part, size), generator=generator) - 1).to(x)
            u = u / u.norm(dim=2, keepdim=True)
            points = (x.flatten(1)[:, None] + width[:, None, None] * u).clamp(self.threat.low, self.threat.high)
            answers = wrong(ask(model, points.view(-1, *x.shape[1:])), labels.repeat_interleave(part))
            signs.append(2 * answers.view(len(x), part).float() - 1)
            moves.append((points - x.flatten(1)[:, None]) / width[:, None, None])
            done += part
        sign, move = torch.cat(signs, 1), torch.cat(moves, 1)
        mean = sign.mean(1, keepdim=True)
        weight = torch.where(mean.abs() == 1, sign, sign - mean)
        estimate = (weight[..., None] * move).mean(1).view_as(x)
        return self.threat.steepest(x, estimate)

    def _leap(
        self, model: Model, x: Tensor, labels: Tensor, direction: Tensor, step: Tensor, queries: Tensor, rows: Tensor
    ) -> Tensor:
        """The longest of step, step/2, step/4… that stays wrong."""
        result, waiting = x.clone(), torch.arange(len(x), device=x.device)
        for _ in range(15):
            tried = x[waiting] + _wide(step[waiting], x) * direction[waiting]
            tried = tried.clamp(self.threat.low, self.threat.high)
            ok = wrong(ask(model, tried), labels[waiting])
            queries[rows[waiting].cpu()] += 1
            result[waiting[ok]] = tried[ok]
            waiting = waiting[~ok]
            if not len(waiting):
                break
            step = step.clone()
            step[waiting] /= 2
        return result


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1] beside ``like``."""
    return values.view(-1, *[1] * (like.ndim - 1))
