"""The smallest value that a smoothed classifier can take nearby, given its value and gradient here.

Mohapatra et al. 2020 (arXiv 2010.06651); Levine et al. 2020 (arXiv 2010.10549) for l2. In units of sigma: f has
E f >= p and gradient s = E[u f], which is m1 against the direction of the shift and m2 long across it. The worst case
over all f: R^d -> [0, 1] is a linear program; its dual

    L(r) = max over a >= 0, b1, b2 >= 0 of  a p - b1 m1 + b2 m2 - E[(a + b1 t + b2 u - exp(r t - r^2/2))_+]

has three variables, and any of their values is a proven lower bound, so an inexact maximum is never unsound. L falls
as m1 grows at one length of s, and rises with that length: m1 takes an upper bound, the length a lower one.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

SMALLEST = 0.01  # of b2: a smaller one makes a sharper kink in what is integrated
SMOOTH_ERROR = 1e-7  # of the integrals on this grid where what is integrated is smooth, taken off every bound
LARGEST = 1e7  # of the dual's variables: beyond, what the grid leaves out at its ends would count
ROUNDING = 1e-13  # of float64 sums over the grid, for each unit of the dual's variables
_GRID = np.linspace(-9.0, 9.0, 3601)
_WIDTH = float(_GRID[1] - _GRID[0])
_DENSITY = np.exp(-(_GRID**2) / 2) / math.sqrt(2 * math.pi) * _WIDTH


def phi(x: float) -> float:
    """Standard normal density."""
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def radius(p: float, m1: float, m2: float = 0.0) -> float:
    """Largest r (in sigma) at which the smoothed probability is proven to stay at 1/2 or above; 0 for p <= 1/2.

    ``m1`` is an upper bound of the gradient against the shift, ``m2`` a lower bound of the gradient across it.
    """
    if p <= 0.5:
        return 0.0
    cohen = float(ndtri(p))
    most = phi(cohen)  # the longest gradient that probability p allows: a half space
    m1, m2 = min(m1, most), min(m2, math.sqrt(max(most**2 - min(m1, most) ** 2, 0.0)))
    total = math.hypot(m1, m2)
    if total >= most * (1 - 1e-9):
        return cohen / (m1 / total) if m1 > 0 else math.inf
    dual = _Dual(p, m1, m2)
    at = (lambda r: slab(p, m1, r)) if m2 <= 1e-9 * most else (lambda r: dual.maximise(r, enough=0.5))
    high = max(2 * cohen, 0.1)
    while at(high) >= 0.5:
        high *= 1.5
        if high > 40:
            return high / 1.5
    low = cohen * (1 - 1e-12)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) >= 0.5 else (low, middle)
    return max(low, cohen)


def slab(p: float, m1: float, r: float) -> float:
    """Nothing known across the shift: the worst f is a slab l <= t <= h with mass p and first moment -m1."""
    low, high = slab_ends(p, m1)
    return float(ndtr(high - r) - ndtr(low - r))


def slab_ends(p: float, m1: float) -> tuple[float, float]:
    """l and h with Phi(h) - Phi(l) = p and phi(l) - phi(h) = -m1."""
    if m1 >= phi(float(ndtri(p))) * (1 - 1e-14):
        return -math.inf, float(ndtri(p))

    def gap(low_mass: float) -> float:
        return phi(float(ndtri(low_mass))) - phi(float(ndtri(low_mass + p))) + m1

    # mass below the slab: from none (half space) to half of what is left (symmetric, no moment)
    mass = brentq(gap, 1e-300, (1 - p) / 2, xtol=1e-300, rtol=1e-14) if m1 > 0 else (1 - p) / 2
    return float(ndtri(mass)), float(ndtri(mass + p))


def lower(p: float, m1: float, m2: float, r: float) -> float:
    """L(r): the dual, maximised over three numbers."""
    return _Dual(p, m1, m2).maximise(r)


class _Dual:
    """The dual at one p, m1, m2; concave, so damped Newton steps climb it. Keeps its best point for the next shift."""

    def __init__(self, p: float, m1: float, m2: float) -> None:
        self.target = np.array([p, -m1, m2])
        self.p, self.m1 = p, m1
        self.x: np.ndarray | None = None

    def maximise(self, r: float, enough: float = math.inf) -> float:
        """The largest value found, less the error of the integrals; stops once it reaches ``enough``."""
        likelihood = np.exp(r * _GRID - r * r / 2)
        x = self._start(r) if self.x is None else self.x
        value, slope, curvature = self._look(x, likelihood)
        proven = value - self._error(x, r, likelihood)
        damping = 1e-3
        for _ in range(100):
            if proven >= enough:
                break
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature) + 1e-12), slope)
            tried = np.maximum(x + step, [0.0, -np.inf, SMALLEST])
            seen = self._look(tried, likelihood)
            if seen[0] > value:
                gained, x, damping = seen[0] - value, tried, damping / 5
                value, slope, curvature = seen
                proven = max(proven, value - self._error(x, r, likelihood))
                if gained < 1e-10 and damping < 1e-6:
                    break
            else:
                damping *= 8
                if damping > 1e8:
                    break
        self.x = x
        return proven

    @staticmethod
    def _error(x: np.ndarray, r: float, likelihood: np.ndarray) -> float:
        """The most that the trapezoids err: at the one or two kinks an eighth of a cell times the turn of the slope.

        A kink that is rounded over more than a cell is integrated far better: by Poisson's summation formula its error
        falls with exp(-2 pi^2 / s^2), where s is by how much the argument of the bend moves in one cell.
        """
        if np.abs(x).max() > LARGEST:
            return math.inf
        line = x[0] + x[1] * _GRID - likelihood
        turn = np.abs(x[1] - r * likelihood)
        cells = np.flatnonzero((line[:-1] > 0) != (line[1:] > 0))
        steep = np.maximum(turn[cells], turn[cells + 1])
        moves = np.maximum(steep * _WIDTH / x[2], 1e-3)
        weight = np.maximum(_DENSITY[cells], _DENSITY[cells + 1])
        rounding = ROUNDING * float(np.abs(x).sum())
        return SMOOTH_ERROR + rounding + float((_WIDTH / 8 * steep * weight * np.exp(-2 * (math.pi / moves) ** 2)).sum())

    def _start(self, r: float) -> np.ndarray:
        """The best line for the slab of the same p and m1."""
        low, high = slab_ends(self.p, self.m1)
        low = max(low, -8.0)
        b1 = (math.exp(r * high) - math.exp(r * low)) / (high - low) * math.exp(-r * r / 2)
        return np.array([max(math.exp(r * high - r * r / 2) - b1 * high, 0.0), b1, 0.3 * (1 + b1)])

    def _look(self, x: np.ndarray, likelihood: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Value, gradient and (negated) Hessian; the second normal variable is integrated in closed form."""
        a, b1, b2 = x
        z = (a + b1 * _GRID - likelihood) / b2
        inside, edge = _DENSITY * ndtr(z), _DENSITY * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        value = float(self.target @ x - b2 * (z @ inside + edge.sum()))
        slope = self.target - np.array([inside.sum(), _GRID @ inside, edge.sum()])
        basis = np.stack([np.ones_like(z), _GRID, -z])
        return value, slope, (basis * edge) @ basis.T / b2
