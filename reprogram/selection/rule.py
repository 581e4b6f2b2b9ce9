"""Which candidate is taken, from held-out errors alone. The forecast repeats the same rule on bootstrap samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TIE = 0.01  # share of the best squared error within which the program with fewer passes wins
DOUBT = 2.0  # standard errors by which another must be better than a preferred program


@dataclass(frozen=True)
class Rule:
    """passes [C] of each candidate; preferred [C]: programs that did best on average on other targets of this kind.

    The lowest mean error wins, and of near ties the one with fewest passes. Where a preferred program was scored, it
    stays unless another is clearly better, by ``DOUBT`` standard errors of their paired difference: with 32 labels the
    best of seven scores is mostly luck (docs/results/auto.md).
    """

    passes: tuple[int, ...]
    preferred: tuple[bool, ...]

    def __call__(self, errors: np.ndarray) -> int:
        """errors [C, n] of the same n examples -> position of the winner."""
        means = errors.mean(1)
        favourites = [i for i, liked in enumerate(self.preferred) if liked]
        if favourites:
            first = min(favourites, key=lambda i: means[i])
            gain = errors[first] - errors
            certain = gain.mean(1) > DOUBT * gain.std(1, ddof=min(1, errors.shape[1] - 1)) / errors.shape[1] ** 0.5
            return int(np.where(certain, means, np.inf).argmin()) if certain.any() else first
        near = np.flatnonzero(means <= means.min() * (1 + TIE))
        return int(min(near, key=lambda i: (self.passes[i], means[i])))
