"""Bounds of a recorded network on a ball: intervals forward, lines substituted back, the tighter of the two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.robustness.certification.linear_bounds import relax
from reprogram.robustness.certification.linear_bounds.trace import Network, Node, NotBounded
from reprogram.threat import DUAL, length

ROWS = 512  # rows that are substituted back at once
SLOPE_RATE = 0.2  # of the climb over slopes from 0 to 1
OUTWARD = 1e-11  # rounding of float64 sums, as a share of the sum of their absolute terms


@dataclass
class Ball:
    """Inputs within ``eps`` of ``centre`` [1, ...] in ``norm``, inside [low, high] (infinite: no limit).

    The range is used for intervals in every norm, and exactly for linf.
    """

    centre: Tensor
    eps: float
    norm: str = "linf"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.norm not in DUAL:
            raise ConfigError(f"norm={self.norm!r} is not one of {', '.join(DUAL)}.")
        if not 0 <= self.eps < float("inf"):
            raise ConfigError(f"eps={self.eps} must be a number of at least 0.")
        least, most = float(self.centre.min()), float(self.centre.max())
        if not self.low <= least <= most <= self.high:
            raise ConfigError(
                f"The input's values run from {least:g} to {most:g}, outside [{self.low:g}, {self.high:g}]; "
                "give its own range as low and high."
            )

    def box(self) -> tuple[Tensor, Tensor]:
        return (self.centre - self.eps).clamp(min=self.low), (self.centre + self.eps).clamp(max=self.high)

    def smallest(self, rows: Tensor) -> Tensor:
        """The smallest value of ``rows`` [R, ...] times an input of the ball, [R]."""
        flat = rows.flatten(1)
        if self.norm == "linf":
            return Box(*self.box()).smallest(rows)
        return flat @ self.centre.flatten() - self.eps * length(flat, DUAL[self.norm])


@dataclass
class Box:
    """Inputs between ``least`` and ``most`` [1, ...], value by value."""

    least: Tensor
    most: Tensor

    def __post_init__(self) -> None:
        if not bool((self.least <= self.most).all()):
            raise ConfigError("A box needs least <= most, value by value.")

    def box(self) -> tuple[Tensor, Tensor]:
        return self.least, self.most

    def smallest(self, rows: Tensor) -> Tensor:
        flat = rows.flatten(1)
        return flat.clamp(min=0) @ self.least.flatten() + flat.clamp(max=0) @ self.most.flatten()


class Bounds:
    """Intervals of every node's value; ``tighten`` makes those before a bend tighter by back-substitution.

    The network is compared with its model at points of the ball first (NotBounded where they differ). Every bound is moved
    outward by what rounding can do to it here, and by what was seen of the model's own rounding.
    most: bends that are tightened at most in all; beyond that the intervals of interval arithmetic are kept.
    parallel: lines below ReLU parallel to the chord (Fast-Lin) instead of adaptive ones; neither is always better.
    slopes: substitutions over which the lines below ReLUs are optimised for every interval that is tightened; 0: none.
    """

    @torch.no_grad()
    def __init__(
        self, network: Network, ball: Ball | Box, most: int = 20_000, parallel: bool = False, slopes: int = 0
    ) -> None:
        self.network, self.ball, self.parallel, self.slopes = network, ball, parallel, slopes
        network.confirm(*ball.box(), quick=True)
        self.tightened = network.bends() <= most
        self.intervals: list[tuple[Tensor, Tensor]] = []
        self._ends: dict[int, tuple[Tensor, Tensor]] = {}
        for place, node in enumerate(network.nodes):
            self.intervals.append(_finite(self._on_a_line(place, node) or self._forward(node)))
            reader = self._bend_after(place)
            if self.tightened and reader is not None and place not in self._ends:
                self._tighten(place, reader)

    def output(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds [R] of ``rows`` [R, T] times the answer (the answer itself without rows)."""
        last = len(self.network.nodes) - 1
        low, high = self.intervals[last]
        if rows is None:
            rows = torch.eye(low.numel(), dtype=low.dtype)
        shaped = rows.to(low).view(-1, *low.shape)
        flat = rows.to(low)
        middle, half = ((high + low) / 2).flatten(), ((high - low) / 2).flatten()
        interval = flat @ middle - flat.abs() @ half, flat @ middle + flat.abs() @ half
        room = flat.abs() @ (OUTWARD * (middle.abs() + half) + self.network.rounding)
        return _finite(
            (
                torch.maximum(self._substitute(last, shaped), interval[0]) - room,
                torch.minimum(-self._substitute(last, -shaped), interval[1]) + room,
            )
        )

    def _on_a_line(self, place: int, node: Node) -> tuple[Tensor, Tensor] | None:
        """Before the first bend, values are affine in an input of one number: its two ends tell all, exactly."""
        if node.kind == "input" and node.shape.numel() == 1:
            self._ends[place] = self.ball.box()
        elif node.kind in ("affine", "add") and all(i in self._ends for i in node.inputs):
            parts = [self._ends[i] for i in node.inputs]
            low, high = (torch.as_tensor(sum(part[end] for part in parts)) for end in (0, 1))
            self._ends[place] = (node.function(low), node.function(high))
        if place not in self._ends:
            return None
        return torch.minimum(*self._ends[place]), torch.maximum(*self._ends[place])

    def _bend_after(self, place: int) -> Node | None:
        return next(
            (n for n in self.network.nodes if place in n.inputs and n.kind in (*relax.BENDS, "max")), None
        )

    def _forward(self, node: Node) -> tuple[Tensor, Tensor]:
        """Interval arithmetic (Gowal et al. 2018, arXiv 1810.12715)."""
        if node.kind == "input":
            return self.ball.box()
        low, high = self.intervals[node.inputs[0]]
        if node.kind == "affine":
            half = node.spread((high - low) / 2 + OUTWARD * torch.maximum(low.abs(), high.abs()))
            middle = node.function((low + high) / 2)
            return middle - half, middle + half
        if node.kind == "add":
            parts = [self.intervals[i] for i in node.inputs]
            return sum(p[0] for p in parts), sum(p[1] for p in parts)  # type: ignore[return-value]
        if node.kind == "max":
            return tuple(relax.windows(edge, node.pool, relax.OUTSIDE).amax(-1) for edge in (low, high))  # type: ignore[return-value]
        if node.kind in relax.CURVED:
            return relax.span(node.kind, low, high)
        return relax.BENDS[node.kind](low), relax.BENDS[node.kind](high)

    def _tighten(self, place: int, reader: Node) -> None:
        """Back-substitution from every value that interval arithmetic leaves undecided."""
        low, high = (edge.clone(memory_format=torch.contiguous_format) for edge in self.intervals[place])
        undecided = (low < 0) & (high > 0) if reader.kind == "relu" else high - low > relax.THIN
        where = torch.nonzero(undecided.flatten()).squeeze(1)
        flat_low, flat_high = low.view(-1), high.view(-1)
        for part in where.split(ROWS) if len(where) else ():
            rows = torch.zeros(len(part), low.numel(), dtype=low.dtype)
            rows[torch.arange(len(part)), part] = 1
            rows = rows.view(len(part), *low.shape)
            flat_low[part] = torch.maximum(flat_low[part], self._climbed(place, rows, self.slopes))
            flat_high[part] = torch.minimum(flat_high[part], -self._climbed(place, -rows, self.slopes))
        high = torch.maximum(low, high)
        self.intervals[place] = (low, high)

    def optimised(self, rows: Tensor, steps: int) -> Tensor:
        """Lower bounds [R] of ``rows`` [R, T] times the answer, with the line below each ReLU chosen for each row.

        Never below what :meth:`output` says. The intervals before the bends stay as they are; ``slopes`` of the class
        optimises these as well.
        """
        last = len(self.network.nodes) - 1
        shaped = rows.to(self.intervals[last][0]).view(-1, *self.intervals[last][0].shape)
        room = rows.abs().to(shaped).sum(1) * self.network.rounding
        return torch.maximum(self.output(rows)[0], self._climbed(last, shaped, steps) - room)

    def _climbed(self, place: int, rows: Tensor, steps: int) -> Tensor:
        """Lower bounds [R] of rows times the value of a node, the best of the first substitution and ``steps`` others.

        Any slope from 0 to 1 below a ReLU is sound, so Adam climbs the bound itself, for each row with slopes of its own
        (alpha-CROWN, Xu et al. 2021, arXiv 2011.13824).
        """
        best = self._substitute(place, rows)
        slopes: dict[int, Tensor] = {}
        for position, node in enumerate(self.network.nodes[: place + 1] if steps else ()):
            if node.kind == "relu":
                below = relax.relu(*self.intervals[node.inputs[0]]).low_slope
                slopes[position] = below.expand(len(rows), *below.shape).clone().requires_grad_(True)
        if not slopes:
            return best
        climb = torch.optim.Adam(slopes.values(), SLOPE_RATE)
        for _ in range(steps):
            with torch.enable_grad():
                bound = self._through(place, rows, slopes)
                climb.zero_grad()
                (-bound.sum()).backward()
            best = torch.maximum(best, bound.detach())
            climb.step()
            for slope in slopes.values():
                slope.data.clamp_(0, 1)
        return best

    @torch.no_grad()
    def _substitute(self, place: int, rows: Tensor) -> Tensor:
        return self._through(place, rows)

    def _through(self, place: int, rows: Tensor, slopes: dict[int, Tensor] | None = None) -> Tensor:
        """Lower bounds [R] of rows [R, ...] times the value of a node, as a function of the input."""
        waiting: dict[int, Tensor] = {place: rows}
        total, size = (torch.zeros(len(rows), dtype=rows.dtype) for _ in range(2))
        for position in range(place, 0, -1):
            if position not in waiting:
                continue
            node, coefficients = self.network.nodes[position], waiting.pop(position)
            for source, passed, constant in self._back(node, coefficients, (slopes or {}).get(position)):
                waiting[source] = waiting[source] + passed if source in waiting else passed
                total, size = total + constant, size + self._size(source, passed)
        bound = total + self.ball.smallest(waiting[0]) if 0 in waiting else total
        return bound - OUTWARD * (size + total.abs())

    def _size(self, source: int, rows: Tensor) -> Tensor:
        """Sums [R] of the absolute terms of rows times a node's value: what rounding is measured by."""
        low, high = self.intervals[source]
        return rows.abs().flatten(1) @ torch.maximum(low.abs(), high.abs()).flatten()

    def _back(
        self, node: Node, rows: Tensor, slope: Tensor | None = None
    ) -> list[tuple[int, Tensor, Tensor | float]]:
        """Coefficients [R, ...] of each input of a node, and what is constant. slope: of the lines below a ReLU."""
        first = node.inputs[0]
        if node.kind == "add":
            return [(source, _as(rows, self.network.nodes[source].shape), 0.0) for source in node.inputs]
        if node.kind == "affine":
            passed, offset = _pull(node.function, self.network.nodes[first].shape, rows)
            return [(first, passed, offset)]
        low, high = self.intervals[first]
        positive, negative = rows.clamp(min=0), rows.clamp(max=0)
        if node.kind == "max":
            return [self._back_max(node, low, high, positive, negative)]
        if node.kind in relax.CURVED:
            lines = relax.curve(node.kind, low, high)
        else:
            lines = relax.relu(low, high, self.parallel) if node.kind == "relu" else getattr(relax, node.kind)(low, high)
        if slope is not None:
            lines = lines._replace(low_slope=torch.where((low < 0) & (high > 0), slope, lines.low_slope))
        passed = positive * lines.low_slope + negative * lines.high_slope
        constant = (positive * lines.low + negative * lines.high).flatten(1).sum(1)
        return [(first, passed, constant)]

    def _back_max(
        self, node: Node, low: Tensor, high: Tensor, positive: Tensor, negative: Tensor
    ) -> tuple[int, Tensor, Tensor]:
        least, most = (relax.windows(edge, node.pool, relax.OUTSIDE) for edge in (low, high))
        below, above, offset = relax.largest(least, most)
        shape = self.network.nodes[node.inputs[0]].shape
        under, _ = _pull(lambda z: (relax.windows(z, node.pool) * below).sum(-1), shape, positive)
        over, _ = _pull(lambda z: (relax.windows(z, node.pool) * above).sum(-1), shape, negative)
        return node.inputs[0], under + over, (negative * offset).flatten(1).sum(1)


def _pull(function, shape: torch.Size, rows: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """Rows [R, ...] times an affine map of one example: coefficients of its input, and the constant [R]."""
    zero = torch.zeros(shape, dtype=rows.dtype)
    value, back = torch.func.vjp(function, zero)[:2]
    (passed,) = torch.func.vmap(back)(rows)
    return passed, rows.flatten(1) @ value.flatten()


def _as(rows: Tensor, shape: torch.Size) -> Tensor:
    """Undo broadcasting of a sum's input."""
    if rows.shape[1:] == shape:
        return rows
    while rows.ndim - 1 > len(shape):
        rows = rows.sum(1)
    for dim, size in enumerate(shape, start=1):
        if size == 1 and rows.shape[dim] != 1:
            rows = rows.sum(dim, keepdim=True)
    return rows


def _finite(ends: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    if not all(bool(torch.isfinite(edge).all()) for edge in ends):
        raise NotBounded("There are no linear bounds here: values in the ball are not finite.")
    return ends
