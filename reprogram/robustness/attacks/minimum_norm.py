"""Fast minimum norm (Pintor et al. 2021, arXiv 2102.12827): the nearest wrong answer, not one at a given distance.

Every example has a radius of its own that shrinks while the answer is wrong and grows while it is right; the point climbs the
margin and is put back into that radius. The radius of an example that was never wrong is where the margin's gradient
foresees the boundary. Differences to the paper: pixels that stand at the end of their range do not count for the gradient
(with them l2 foresees too little on images with a plain background), the point is put back into ball and range at once
(l1), linf steps go along the sign, and for models that answer at random the point is carried outwards until most passes
are wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from torch import Tensor

from reprogram.ranges import Count, Positive, Range
from reprogram.robustness.attacks.base import Attack, Model, survival
from reprogram.robustness.losses import margin
from reprogram.threat import DUAL, Threat, box_projection, input_gradient, length

OUTWARDS: Final = (1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5)  # times as far, for models that answer at random
SURE: Final = 0.3  # share of these passes that may still be right: one half would not outlive a second look
BEYOND: Final = 1.02  # of the distance that the gradient foresees: exactly there, the answer is not wrong yet (DeepFool)
LAST: Final = 0.01  # of the first step and of the first change of the radius, at the end of the cosine


@dataclass(eq=False)
class MinimumNorm(Attack):
    """steps: gradient steps. stride: length of the first step: l2 norm in l2 and l1, pixels in linf. change: of the radius,
    relative, at first. draws: passes averaged for each gradient."""

    steps: Count = 100
    stride: Positive | None = None
    change: Annotated[float, Range(0, 1, open=True)] = 0.05
    draws: Count = 1

    averages = True

    def perturb(
        self, model: Model, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        norm, few = self.threat.norm, images.ndim - 1
        first = self.stride or {"linf": 0.1, "l2": 1.0, "l1": 1.0}[norm]
        best, nearest = images.clone(), torch.full((len(images),), math.inf, device=images.device)
        ever = torch.zeros_like(labels, dtype=torch.bool)
        radius, x = nearest.clone(), images.clone()
        for step in range(self.steps):
            cosine = LAST + (1 - LAST) * (1 + math.cos(math.pi * step / self.steps)) / 2
            values, gradient = self._climb(model, x, labels)
            gradient = self._free(x, gradient)
            far, hit = self.threat.distance(images, x), values > 0
            better = hit & (far < nearest)
            best[better], nearest[better] = x[better], far[better]
            ever |= hit
            ahead = far + BEYOND * values.abs() / length(gradient.flatten(1), DUAL[norm]).clamp_min(1e-12) + 1e-5
            grown = torch.where(ever, radius * (1 + self.change * cosine), ahead)
            radius = torch.where(hit, torch.minimum(radius.minimum(far) * (1 - self.change * cosine), nearest), grown)
            radius = radius.clamp(1e-6, self.threat.diameter(images.shape[1:]))
            unit = gradient.sign() if norm == "linf" else Threat("l2").steepest(x, gradient)
            x = box_projection(self.threat, images, x + first * cosine * unit, radius.view(-1, *[1] * few))
        best = torch.where(ever.view(-1, *[1] * few), best, x)
        spent = float(self.steps * self.draws)
        if self.passes > 1:
            best, spent = self._outwards(model, images, labels, best), spent + self.passes * len(OUTWARDS)
        return best, torch.full((len(images),), spent)

    def _free(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The gradient without the pixels that it would push out of their range."""
        stuck = ((x <= self.threat.low) & (gradient < 0)) | ((x >= self.threat.high) & (gradient > 0))
        return gradient.masked_fill(stuck, 0.0)

    def _outwards(self, model: Model, images: Tensor, labels: Tensor, found: Tensor) -> Tensor:
        """The nearest point on the way through ``found`` that is clearly wrong in most passes; the last where none is."""
        chosen, waiting = found.clone(), torch.ones_like(labels, dtype=torch.bool)
        for times in OUTWARDS:
            rows = torch.nonzero(waiting).squeeze(1)
            if not len(rows):
                break
            point = (images[rows] + times * (found[rows] - images[rows])).clamp(self.threat.low, self.threat.high)
            chosen[rows] = point
            waiting[rows] = survival(model, point, labels[rows], self.passes).to(waiting.device) > SURE
        return chosen

    def _climb(self, model: Model, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Margins [B], above 0 where the answer is wrong, and their gradient."""
        point = x.detach().requires_grad_(True)
        with torch.enable_grad():
            values = torch.stack([margin(model(point), labels) for _ in range(self.draws)]).mean(0)
        return values.detach(), input_gradient(values, point)
