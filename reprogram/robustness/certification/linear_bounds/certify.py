"""Certified radii: the largest ball in which no other class can win, by bisection on its size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.robustness.certification.linear_bounds.bounds import Ball, Bounds, Box
from reprogram.robustness.certification.linear_bounds.trace import Network, record
from reprogram.threat import diameter

SLACK, TINY = 2e-5, 1e-6  # a certificate holds a little further than it says: float32 rounds the way that was gone
VACUOUS = 1e-5  # a radius below this share of the largest that was tried says nothing


@dataclass
class LinearBounds:
    """most: bends whose intervals are tightened (see :class:`Bounds`). steps: of the bisection.

    both: also try lines parallel to the chord and take the better certificate (twice the time). slopes: substitutions over
    which the lines below ReLUs are optimised where these do not suffice (alpha-CROWN); 0: none.
    """

    most: int = 20_000
    steps: int = 15
    both: bool = True
    slopes: int = 0

    @torch.no_grad()
    def margin(self, network: Network, ball: Ball | Box, label: int) -> float:
        """Lower bound of the label's lead over the best other class anywhere in the ball."""
        classes = network.nodes[-1].shape[-1]
        rows = -torch.eye(classes, dtype=torch.float64)
        rows[:, label] += 1
        rows = torch.cat([rows[:label], rows[label + 1 :]])
        best = -float("inf")
        for parallel in (False, True) if self.both else (False,):
            bounds = Bounds(network, ball, self.most, parallel)
            best = max(best, float(bounds.output(rows)[0].min()))
            if best <= 0 and self.slopes:
                best = max(best, float(bounds.optimised(rows, self.slopes).min()))
            if best <= 0 and self.slopes:  # the intervals before the bends, too: the most expensive is the last
                bounds = Bounds(network, ball, self.most, parallel, self.slopes)
                best = max(best, float(bounds.optimised(rows, self.slopes).min()))
            if best > 0:
                break
        return best

    def holds(self, network: Network, ball: Ball, label: int) -> bool:
        """Is ``label`` proven to be the only possible answer in the ball, and a little further?"""
        return self.margin(network, replace(ball, eps=ball.eps * (1 + SLACK) + TINY), label) > 0

    def radius(
        self, model: Callable[[Tensor], Tensor], image: Tensor, label: int, norm: str, largest: float, low: float = 0.0,
        high: float = 1.0,
    ) -> float:  # fmt: skip
        """Certified radius of one image [C, H, W], at most ``largest``; 0 where nothing could be certified.

        Raises NotBounded for a model or a layer without proven bounds.
        """
        return self.widest(record(model, image), Ball(image[None].double(), largest, norm, low, high), label)

    @torch.no_grad()
    def widest(self, network: Network, ball: Ball, label: int) -> float:
        """The largest size, up to that of ``ball``, at which ``label`` is the only possible answer."""
        answer = network.value(ball.centre)
        if answer.shape[-1] < 2:
            raise ConfigError(f"Certificates need logits [1, T] of at least two classes, not {list(answer.shape)}.")
        if int(answer.argmax()) != label:
            return 0.0

        def holds(eps: float) -> bool:
            return self.holds(network, replace(ball, eps=eps), label)

        if holds(ball.eps):
            return ball.eps
        largest = min(ball.eps, diameter(ball.norm, ball.centre.numel(), ball.high - ball.low))
        inside, outside = 0.0, largest  # beyond it a ball holds every input
        for _ in range(self.steps):
            # the scale is unknown, so the first steps are taken by factors
            middle = (inside + outside) / 2 if inside else outside / 4
            inside, outside = (middle, outside) if holds(middle) else (inside, middle)
            if not inside and outside < VACUOUS * largest:
                return 0.0
        return inside
