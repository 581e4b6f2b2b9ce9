"""Lines below and above a bend on an interval (CNN-Cert, arXiv 1811.12395, section 3 and appendix)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

OUTSIDE = -1e30  # stands for minus infinity beyond the edge of an image
THIN = 1e-9  # an interval narrower than this is bounded by its ends
BENDS = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "softplus": F.softplus, "silu": F.silu, "gelu": F.gelu,
}  # fmt: skip
CURVED = {"softplus": 0.25, "silu": 0.5, "gelu": 0.8}  # no second derivative is larger: s(1-s) <= 1/4; at 0; 2 phi(0) = 0.798
PLACES = 33  # where a curve is looked at
SMOOTH = 1e-8  # what torch's softplus leaves out beyond its threshold of 20, and rounding


class BoundLines(NamedTuple):
    """``low_slope x + low <= bend(x) <= high_slope x + high``; all of the shape of x."""

    low_slope: Tensor
    low: Tensor
    high_slope: Tensor
    high: Tensor


def relu(low: Tensor, high: Tensor, parallel: bool = False) -> BoundLines:
    """Above: the chord. Below: the steeper of 0 and x where that is closer (adaptive), or parallel to the chord."""
    width = (high - low).clamp(min=1e-300)
    bent = (low < 0) & (high > 0)
    passed = (low >= 0).to(low)
    chord = torch.where(bent, high / width, passed)
    offset = torch.where(bent, -high * low / width, torch.zeros_like(low))
    adaptive = (high >= -low).to(low)
    below = torch.where(bent, chord if parallel else adaptive, passed)
    return BoundLines(below, torch.zeros_like(low), chord, offset)


def tanh(low: Tensor, high: Tensor) -> BoundLines:
    """Lines below and above tanh between ``low`` and ``high``."""
    return _s_shape(low, high, torch.tanh, lambda x: 1 - torch.tanh(x) ** 2)


def sigmoid(low: Tensor, high: Tensor) -> BoundLines:
    """Lines below and above the logistic function between ``low`` and ``high``."""
    return _s_shape(low, high, torch.sigmoid, lambda x: torch.sigmoid(x) * (1 - torch.sigmoid(x)))


def curve(kind: str, low: Tensor, high: Tensor) -> BoundLines:
    """Lines of the chord's slope around a curve whose second derivative is at most M = ``CURVED[kind]``.

    Between two of PLACES points, h apart, a curve minus a line is no further than M h² / 8 from what lies between its values
    at both, so the least and the greatest of these values, moved by that, hold everywhere.
    """
    width = high - low
    slope = torch.where(width < 1e-6, 0.0, (BENDS[kind](high) - BENDS[kind](low)) / width.clamp_min(1e-6))
    least, most = _extremes(kind, low, high, slope)
    return BoundLines(slope, least, slope, most)


def span(kind: str, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of a curve of ``CURVED`` between ``low`` and ``high``."""
    return _extremes(kind, low, high, torch.zeros_like(low))


def _extremes(kind: str, low: Tensor, high: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of the curve minus slope times x."""
    least, most = torch.full_like(low, float("inf")), torch.full_like(low, -float("inf"))
    for share in torch.linspace(0, 1, PLACES, dtype=low.dtype):
        x = low + share * (high - low)
        value = BENDS[kind](x) - slope * x
        least, most = torch.minimum(least, value), torch.maximum(most, value)
    off = CURVED[kind] * ((high - low) / (PLACES - 1)) ** 2 / 8 + SMOOTH * (1 + torch.maximum(low.abs(), high.abs()))
    return least - off, most + off


def _s_shape(low, high, bend, slope) -> BoundLines:  # type: ignore[no-untyped-def]
    """Convex below 0, concave above, point-symmetric up to a constant."""
    width = high - low
    thin = width < THIN
    chord = torch.where(thin, slope((low + high) / 2), (bend(high) - bend(low)) / torch.where(thin, 1.0, width))
    middle = (low + high) / 2

    above_at = torch.where(low >= 0, middle, _tangent(low, high, bend, slope, torch.ones_like(low)))
    chord_above = (high <= 0) | ((low < 0) & (slope(high) >= chord)) | thin
    high_slope = torch.where(chord_above, chord, slope(above_at))
    high_offset = torch.where(
        chord_above,
        torch.maximum(bend(low) - chord * low, bend(high) - chord * high),
        bend(above_at) - high_slope * above_at,
    )
    below_at = torch.where(high <= 0, middle, -_tangent(-high, -low, bend, slope, -torch.ones_like(low)))
    chord_below = (low >= 0) | ((high > 0) & (slope(low) >= chord)) | thin
    low_slope = torch.where(chord_below, chord, slope(below_at))
    low_offset = torch.where(
        chord_below,
        torch.minimum(bend(low) - chord * low, bend(high) - chord * high),
        bend(below_at) - low_slope * below_at,
    )
    return BoundLines(low_slope, low_offset, high_slope, high_offset)


def _tangent(low, high, bend, slope, sign) -> Tensor:  # type: ignore[no-untyped-def]
    """The point d in [0, high] whose tangent passes through (low, bend(low)); the safe side of the bisection.

    ``sign`` -1 mirrors the bend at the origin: bend(-x) is replaced by 2 bend(0) - bend(x), whose slope is the same.
    """
    value = bend(low)
    near, far = torch.zeros_like(low), high.clamp(min=0)
    for _ in range(40):
        middle = (near + far) / 2
        above = bend(middle) + slope(middle) * (low - middle) >= value
        near, far = torch.where(above, near, middle), torch.where(above, middle, far)
    return far


class PoolBounds(NamedTuple):
    """Window, stride and padding of max-pooling, in pixels (down, across)."""

    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


def windows(x: Tensor, pool: PoolBounds, fill: float = 0.0) -> Tensor:
    """[1, C, H, W] -> [1, C, h, w, window size]; ``fill`` stands where a window reaches over the edge."""
    (kh, kw), (sh, sw), (ph, pw) = pool
    x = torch.nn.functional.pad(x, (pw, pw, ph, ph), value=fill)
    h, w = (x.shape[2] - kh) // sh + 1, (x.shape[3] - kw) // sw + 1
    parts = [
        x[:, :, i : i + (h - 1) * sh + 1 : sh, j : j + (w - 1) * sw + 1 : sw] for i in range(kh) for j in range(kw)
    ]
    return torch.stack(parts, -1)


def largest(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Max over the last dimension: weights below (one input), weights above, offset above.

    Below: max >= the input whose lower bound is largest. Above: sum w_i (z_i - l_i) + gamma over the inputs that can be
    the largest (paper's appendix); at every corner of the box this is at least the largest input.
    """
    floor = low.amax(-1, keepdim=True)
    possible = high >= floor
    width = (high - low).clamp(min=1e-12)
    share = torch.where(possible, 1 / width, torch.zeros_like(width))
    gamma = ((share * high).sum(-1, keepdim=True) - 1) / share.sum(-1, keepdim=True)
    ceiling = torch.where(possible, high, torch.full_like(high, float("inf"))).amin(-1, keepdim=True)
    gamma = torch.minimum(torch.maximum(gamma, floor), ceiling)
    above = torch.where(possible, ((high - gamma) / width).clamp(0, 1), torch.zeros_like(width))
    offset = gamma.squeeze(-1) - (above * low).sum(-1)
    alone = possible.sum(-1, keepdim=True) == 1
    below = torch.nn.functional.one_hot(low.argmax(-1), low.shape[-1]).to(low)
    above = torch.where(alone, below, above)
    offset = torch.where(alone.squeeze(-1), torch.zeros_like(offset), offset)
    return below, above, offset
