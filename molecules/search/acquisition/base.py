"""Which candidates are evaluated next: one at a time, the one with the highest value of an acquisition function."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from reprogram.registry import find

PACKAGE = "molecules.search.acquisition"
RANDOM = 0.3  # share of a batch that is drawn at random while the search is stuck


class Acquisition(ABC):
    """The value of each candidate. A subclass in a file of this package is chosen by the name of the file.

    Randomised functions draw anew at each call, so that a batch holds safe and bold candidates.
    """

    @abstractmethod
    def values(self, means: np.ndarray, stds: np.ndarray, best: float, rng: np.random.Generator) -> np.ndarray:
        """Float [N], larger is better.

        means, stds: float [N], what is expected of each candidate; the standard deviations are those that the search
        trusts. best: the highest value so far, on the same scale.
        """


def acquisition(name: str) -> Acquisition:
    """The acquisition function of this name. Raises ConfigError with the nearest one that exists."""
    made = find(PACKAGE, name, Acquisition)()
    assert isinstance(made, Acquisition)
    return made


def choose(
    values: Acquisition,
    expected: tuple[np.ndarray, np.ndarray],
    best: float,
    feasible: np.ndarray,
    count: int,
    stuck: bool,
    rng: np.random.Generator,
) -> list[int]:
    """Rows to evaluate now, at most ``count`` of the feasible ones.

    expected: means and trusted standard deviations, float [N] each. best: the highest value so far. feasible: bool [N].
    stuck: a share of the batch is drawn at random, because the surrogate has led nowhere for a while.
    """
    free, rows = feasible.copy(), np.flatnonzero(feasible)
    chosen: list[int] = []
    for at in rng.permutation(rows)[: int(stuck * RANDOM * count)].tolist():
        chosen.append(at)
        free[at] = False
    for _ in range(min(count, len(rows)) - len(chosen)):
        value = np.where(free, values.values(*expected, best, rng), -np.inf)
        chosen.append(int(value.argmax()))
        free[chosen[-1]] = False
    return chosen
