"""What an attacker may do to an input: a norm ball around it, cut by the range of the pixels, and the way uphill inside.

Strengthening a program in training and attacking it afterwards share this geometry, so both mean the same threat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reprogram.errors import ConfigError, nearest

NORMS = ("linf", "l2", "l1")
DUAL = {"l1": "linf", "l2": "l2", "linf": "l1"}
SPARSE = 0.01  # share of the coordinates that one l1 step changes (SLIDE, Tramer & Boneh 2019, arXiv 1904.13000)

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Threat:
    """All points within ``eps`` of an input x0 in ``norm``, inside ``[low, high]``, in units of the target's pixels.

    Inputs are [B, ...]; the norm is taken over everything but the first dimension.
    """

    norm: str = "linf"
    eps: float = 8 / 255
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise ConfigError(f"norm={self.norm!r} is not a threat; {nearest(str(self.norm), NORMS)}.")
        if not self.low < self.high:
            raise ConfigError(f"The input range must grow, but low={self.low} and high={self.high}.")
        if not 0 < self.eps < float("inf"):
            raise ConfigError(f"eps={self.eps} must be a positive number.")
        if self.norm == "linf" and self.eps > self.high - self.low:
            raise ConfigError(
                f"eps={self.eps:g} is outside the input range: pixels lie in [{self.low:g}, {self.high:g}], "
                f"so linf allows at most {self.high - self.low:g} (did you mean {self.eps:g}/255?)."
            )

    def __str__(self) -> str:
        return f"{self.norm} eps={self.eps:.4g}"

    def at(self, eps: float) -> Threat:
        """The same threat with another size."""
        return replace(self, eps=eps)

    def diameter(self, shape: Sequence[int]) -> float:
        """The distance of the two inputs of this shape that lie furthest apart."""
        return diameter(self.norm, math.prod(shape), self.high - self.low)

    def fits(self, shape: Sequence[int], key: str = "eps") -> None:
        """Raises ConfigError, with the ``key`` to change, where ``eps`` reaches beyond all inputs of this shape."""
        if self.eps > (most := self.diameter(shape)):
            raise ConfigError(
                f"{key}={self.eps:g} is outside the input range: two images of {'x'.join(map(str, shape))} pixels in "
                f"[{self.low:g}, {self.high:g}] are at most {most:g} apart in {self.norm}."
            )

    def distance(self, x0: Tensor, x: Tensor) -> Tensor:
        """Norm of x - x0 for each example, [B]."""
        return length((x - x0).flatten(1), self.norm)

    def box(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest pixels of the linf ball inside the range."""
        return (x0 - self.eps).clamp_(self.low, self.high), (x0 + self.eps).clamp_(self.low, self.high)

    def project(self, x0: Tensor, x: Tensor) -> Tensor:
        """The nearest allowed point (l2: scaled to the ball, then cut; never further than eps)."""
        if self.norm == "linf":
            return torch.clamp(x, *self.box(x0))
        delta = (x - x0).flatten(1)
        if self.norm == "l2":
            size = delta.norm(dim=1, keepdim=True)
            delta = delta * (self.eps / size.clamp(min=self.eps))
            return (x0 + delta.view_as(x0)).clamp(self.low, self.high)
        flat = x0.flatten(1)
        return x0 + _l1_box(delta, self.low - flat, self.high - flat, self.eps).view_as(x0)

    def steepest(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The direction of unit length in this norm that climbs fastest (l1: shared by the largest coordinates)."""
        if self.norm == "linf":
            return gradient.sign()
        flat = gradient.flatten(1)
        if self.norm == "l2":
            return (flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)).view_as(gradient)
        where = x.flatten(1)
        stuck = ((where <= self.low) & (flat < 0)) | ((where >= self.high) & (flat > 0))
        usable = flat.abs().masked_fill(stuck, 0)
        count = max(1, int(SPARSE * flat.shape[1]))
        threshold = usable.topk(count, dim=1).values[:, -1:]
        step = flat.sign() * ((usable >= threshold) & (usable > 0))
        return (step / step.abs().sum(1, keepdim=True).clamp(min=1)).view_as(gradient)

    def random(self, x0: Tensor, generator: torch.Generator) -> Tensor:
        """A random allowed point: uniform in the ball (l1: of uniform radius), then cut to the range."""
        flat = x0.flatten(1)
        shape = flat.shape
        radius = torch.rand((shape[0], 1), generator=generator)
        if self.norm == "linf":
            delta = 2 * torch.rand(shape, generator=generator) - 1
        elif self.norm == "l2":
            delta = torch.randn(shape, generator=generator)
            delta = delta / delta.norm(dim=1, keepdim=True) * radius ** (1 / shape[1])
        else:
            size = -torch.rand(shape, generator=generator).clamp(min=1e-30).log()
            signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
            delta = signs * size / size.sum(1, keepdim=True) * radius
        delta = (self.eps * delta).to(device=x0.device, dtype=x0.dtype)
        return self.project(x0, x0 + delta.view_as(x0))


def diameter(norm: str, size: int, width: float = 1.0) -> float:
    """Distance in ``norm`` of opposite corners of a box of ``size`` values, each with a range of ``width``."""
    return width * {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[norm]


def box_projection(threat: Threat, x0: Tensor, x: Tensor, eps: Tensor) -> Tensor:
    """:meth:`Threat.project` with a size of its own for each example, ``eps`` [B, 1, ...]."""
    if threat.norm == "linf":
        return torch.clamp(torch.clamp(x, x0 - eps, x0 + eps), threat.low, threat.high)
    delta, size = (x - x0).flatten(1), eps.flatten(1)
    if threat.norm == "l2":
        delta = delta * (size / delta.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
        return (x0 + delta.view_as(x0)).clamp(threat.low, threat.high)
    flat = x0.flatten(1)
    return x0 + _l1_box(delta, threat.low - flat, threat.high - flat, size).view_as(x0)


def length(flat: Tensor, norm: str) -> Tensor:
    """Norm of each row of [B, D]."""
    if norm == "linf":
        return flat.abs().amax(1)
    return flat.norm(dim=1) if norm == "l2" else flat.abs().sum(1)


def _l1_box(delta: Tensor, low: Tensor, high: Tensor, eps: float | Tensor) -> Tensor:
    """Euclidean projection of [B, D] on {|d|_1 <= eps} and [low, high] at once (Croce & Hein 2021, arXiv 2103.01208).

    The solution is a soft threshold cut to the box; the threshold is found by bisection.
    """
    size, sign = delta.abs(), delta.sign()
    below, above = torch.zeros_like(size[:, :1]), size.amax(1, keepdim=True)

    def at(threshold: Tensor) -> Tensor:
        return torch.clamp(sign * (size - threshold).clamp(min=0), low, high)

    fits = at(below).abs().sum(1, keepdim=True) <= eps
    for _ in range(30):
        middle = (below + above) / 2
        too_long = at(middle).abs().sum(1, keepdim=True) > eps
        below, above = torch.where(too_long, middle, below), torch.where(too_long, above, middle)
    return torch.where(fits, at(torch.zeros_like(below)), at(above))


def ascend(
    objective: Objective, x0: Tensor, threat: Threat, steps: int, step_size: float, start: Tensor | None = None
) -> Tensor:
    """Projected steepest ascent (PGD, Madry et al. 2018, arXiv 1706.06083): points [B, ...] inside the threat.

    ``objective(x [b, ...], rows [b])`` returns values [b] to raise and a mask [b] of examples that are done; those
    leave the batch, so that nothing is spent on them.
    """
    result = (x0 if start is None else start).detach().clone()
    rows = torch.arange(len(x0), device=x0.device)
    x, climb = result.clone(), _Climb(threat, x0, step_size)
    for _ in range(steps):
        x.requires_grad_(True)
        with torch.enable_grad():
            values, done = objective(x, rows)
        gradient = input_gradient(values, x)
        x = x.detach()
        if done.any():
            result[rows[done]] = x[done]
            left = ~done
            x, rows, gradient = x[left], rows[left], gradient[left]
            climb.keep(left)
        if not len(rows):
            return result
        x = climb.step(x, gradient)
    result[rows] = x
    return result


class _Climb:
    """A step uphill and back into the threat; in linf in place, within a box that is computed once."""

    def __init__(self, threat: Threat, centre: Tensor, step_size: float) -> None:
        self.threat, self.step_size, self.centre = threat, step_size, centre
        self.low, self.high = threat.box(centre) if threat.norm == "linf" else (centre, centre)

    def keep(self, left: Tensor) -> None:
        self.centre, self.low, self.high = self.centre[left], self.low[left], self.high[left]

    def step(self, x: Tensor, gradient: Tensor) -> Tensor:
        if self.threat.norm == "linf":
            return torch.clamp_(x.add_(gradient.sign_(), alpha=self.step_size), self.low, self.high)
        return self.threat.project(self.centre, x + self.step_size * self.threat.steepest(x, gradient))


def input_gradient(values: Tensor, x: Tensor) -> Tensor:
    """Gradient of the sum of ``values`` [b] with respect to ``x``; not-finite entries count as zero."""
    gradient = torch.autograd.grad(values.sum(), x, allow_unused=True)[0] if values.requires_grad else None
    if gradient is None:
        raise ConfigError(
            "This model has no gradient with respect to its input; use the attacks that only query it "
            "(square, hopskipjump, noise)."
        )
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
