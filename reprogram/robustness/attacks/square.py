"""Square attack (Andriushchenko et al. 2020, arXiv 1912.00049): random search that only reads scores; linf, l2, l1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.ranges import Count, PositiveShare
from reprogram.robustness.attacks.base import Attack, Model, ask
from reprogram.robustness.losses import margin, wrong

SCHEDULE = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 steps: where the window's share is halved


@dataclass(eq=False)
class Square(Attack):
    """steps: model calls an example may cost. share: share of the image that the first window covers."""

    steps: Count = 5000
    share: PositiveShare = 0.8

    access: ClassVar[str] = "score"

    @torch.no_grad()
    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        found, queries = images.clone(), torch.ones(len(images))
        x0, y, rows = images, labels, torch.arange(len(images), device=images.device)
        x = self._stripes(x0, generator)
        logits = ask(model, x)
        best, done = margin(logits, y), wrong(logits, y)
        for step in range(self.steps - 1):
            found[rows[done]] = x[done]
            if done.any():
                left = ~done
                x0, y, x, rows, best = x0[left], y[left], x[left], rows[left], best[left]
            if not len(rows):
                return found, queries
            tried = self._try(x0, x, step, generator)
            logits = ask(model, tried)
            values, done = margin(logits, y), wrong(logits, y)
            better = (values > best) | done
            x = torch.where(better.view(-1, 1, 1, 1), tried, x)
            best = torch.where(better, values, best)
            queries[rows.cpu()] += 1
        found[rows] = x
        return found, queries

    def _side(self, step: int, height: int, width: int) -> int:
        """Side of the window at this step, in pixels."""
        place = step / self.steps * 10000
        share = self.share / 2 ** sum(int(place) > limit for limit in SCHEDULE)
        return min(max(round(math.sqrt(share * height * width)), 1), height, width)

    def _stripes(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        n, c, h, w = x0.shape
        if self.threat.norm == "linf":
            delta = self.threat.eps * _signs((n, c, 1, w), generator, x0)
            return self.threat.project(x0, x0 + delta)
        delta, side = torch.zeros_like(x0), max(h // 5, 1)
        for top in range((h - side * (h // side)) // 2, h - side + 1, side):
            for left in range((w - side * (w // side)) // 2, w - side + 1, side):
                bump = self._bump(side, generator, x0)
                delta[:, :, top : top + side, left : left + side] += bump * _signs((n, c, 1, 1), generator, x0)
        return self._stretch(x0, delta)

    def _try(self, x0: Tensor, x: Tensor, step: int, generator: torch.Generator) -> Tensor:
        n, c, h, w = x0.shape
        side = self._side(step, h, w)
        if self.threat.norm == "linf":
            top, left = _corner(h, w, side, generator)
            tried = x.clone()
            part = x0[:, :, top : top + side, left : left + side]
            tried[:, :, top : top + side, left : left + side] = (
                part + self.threat.eps * _signs((n, c, 1, 1), generator, x0)
            ).clamp(self.threat.low, self.threat.high)
            return tried
        return self._exchange(x0, x, min(max(side, 3) | 1, h, w), generator)

    def _exchange(self, x0: Tensor, x: Tensor, side: int, generator: torch.Generator) -> Tensor:
        """l2 and l1: empty one window and spend its length, and any that is left, on a bump in another."""
        n, c, h, w = x0.shape
        p = 2 if self.threat.norm == "l2" else 1
        delta = x - x0
        (top, left), (top2, left2) = _corner(h, w, side, generator), _corner(h, w, side, generator)
        window = (..., slice(top, top + side), slice(left, left + side))
        window2 = (..., slice(top2, top2 + side), slice(left2, left2 + side))

        def power(part: Tensor, dims: tuple[int, ...] = (2, 3)) -> Tensor:
            return part.abs().pow(p).sum(dims, keepdim=True)

        masked = torch.zeros_like(delta)
        masked[window], masked[window2] = delta[window], delta[window2]
        unused = (self.threat.eps**p - power(delta, (1, 2, 3))).clamp(min=0)
        bump = self._bump(side, generator, x0) * _signs((n, c, 1, 1), generator, x0)
        bump = bump + delta[window] / (power(delta[window]) ** (1 / p) + 1e-12)
        length = (power(masked) + unused / c) ** (1 / p)
        bump = bump / (power(bump) ** (1 / p) + 1e-12) * length
        delta = delta.clone()
        delta[window2] = 0
        delta[window] = bump
        return self._stretch(x0, delta)

    def _stretch(self, x0: Tensor, delta: Tensor) -> Tensor:
        """To the full length of the threat (l2), or cut to it (l1), inside the range."""
        if self.threat.norm == "l2":
            size = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            delta = delta / (size + 1e-12) * self.threat.eps
        return self.threat.project(x0, x0 + delta)

    def _bump(self, side: int, generator: torch.Generator, like: Tensor) -> Tensor:
        """[side, side] of unit length: a positive and a negative pyramid side by side, randomly turned."""
        p = 2 if self.threat.norm == "l2" else 1
        bump = torch.zeros(side, side)
        bump[: side // 2] = _pyramid(side // 2, side, 4 // p)  # l2 falls with the square, l1 with the fourth power
        bump[side // 2 :] = -_pyramid(side - side // 2, side, 4 // p)
        bump = bump / bump.abs().pow(p).sum() ** (1 / p)
        turned = bump.T if torch.rand(1, generator=generator) > 0.5 else bump
        return turned.to(like)


def _pyramid(height: int, width: int, power: int) -> Tensor:
    """[height, width]: rectangles around the middle, each adding 1/(k+1)^power."""
    bump = torch.zeros(height, width)
    row, column = height // 2, width // 2
    for k in range(max(height // 2 + 1, width // 2 + 1)):
        size = 2 * k + 1
        bump[max(row, 0) : min(row + size, height), max(column, 0) : min(column + size, width)] += 1 / (k + 1) ** power
        row, column = row - 1, column - 1
    return bump


def _signs(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return (2 * torch.randint(0, 2, shape, generator=generator) - 1).to(like)


def _corner(height: int, width: int, side: int, generator: torch.Generator) -> tuple[int, int]:
    top = torch.randint(0, height - side + 1, (1,), generator=generator)
    left = torch.randint(0, width - side + 1, (1,), generator=generator)
    return int(top), int(left)
