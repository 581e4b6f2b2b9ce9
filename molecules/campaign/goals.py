"""What is wanted of each measured column, and how much a candidate promises of it.

``maximize`` and ``minimize`` are aims; ``at least 7``, ``at most 10`` and ``from 1 to 3`` are conditions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr
from scipy.stats import qmc

from molecules.campaign.experts import Prediction
from molecules.campaign.property_model import Scale
from reprogram.errors import ConfigError

MAXIMIZE, MINIMIZE, CONDITION = "maximize", "minimize", "condition"
_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_FORMS = (  # what people type, and which of its numbers are the lower and the upper end
    (re.compile(rf"(?:at least|>=|≥|above|over|>)\s*{_NUMBER}"), (1, None)),
    (re.compile(rf"(?:at most|<=|≤|below|under|<)\s*{_NUMBER}"), (None, 1)),
    (re.compile(rf"(?:from|between)?\s*{_NUMBER}\s*(?:to|and|\.\.)\s*{_NUMBER}"), (1, 2)),
)
POINTS = 1024  # of the box in which a gain is measured
FEW = 1e-12


@dataclass(frozen=True)
class Goal:
    """aim: ``maximize``, ``minimize`` or ``condition`` (``low`` to ``high``, in the units of the column)."""

    column: str
    aim: str
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def parse(cls, column: str, text: str) -> Goal:
        """Raises ConfigError with what can be typed."""
        words = " ".join(str(text).lower().split())
        for aim, names in ((MAXIMIZE, ("maximize", "maximise", "max")), (MINIMIZE, ("minimize", "minimise", "min"))):
            if words in names:
                return cls(column, aim)
        for form, (low, high) in _FORMS:
            if match := form.fullmatch(words):
                ends = (float(match[low]) if low else -math.inf, float(match[high]) if high else math.inf)
                if ends[0] >= ends[1]:
                    raise ConfigError(f"goals.{column}='{text}' is empty; the first number must be the smaller one.")
                return cls(column, CONDITION, *ends)
        raise ConfigError(
            f"goals.{column}='{text}' is not a goal; allowed: maximize, minimize, 'at least 7', 'at most 10', 'from 1 to 3'."
        )

    def __str__(self) -> str:
        if self.aim != CONDITION:
            return f"{self.aim} {self.column}"
        if math.isinf(self.high):
            return f"{self.column} at least {self.low:g}"
        if math.isinf(self.low):
            return f"{self.column} at most {self.high:g}"
        return f"{self.column} from {self.low:g} to {self.high:g}"

    def scaled(self, scale: Scale) -> Goal:
        """The same on the scale of the model."""
        low, high = (float(scale.to_model(end)) if math.isfinite(end) else end for end in (self.low, self.high))
        return replace(self, low=low, high=high)

    @property
    def sign(self) -> float:
        return -1.0 if self.aim == MINIMIZE else 1.0

    def chance(self, found: Prediction) -> np.ndarray:
        """Probability [N] that the true value satisfies the condition."""
        return ndtr((self.high - found.mean) / found.std) - ndtr((self.low - found.mean) / found.std)

    def holds(self, values: np.ndarray) -> np.ndarray:
        return (values >= self.low) & (values <= self.high)


def read_goals(given: Mapping[str, str]) -> list[Goal]:
    """Goals by column, in order."""
    return [Goal.parse(column, text) for column, text in given.items()]


class Promise:
    """How much candidates promise, given the best that was measured.

    Conditions alone: the probability that all hold. One aim: expected improvement over the ``among``-th best measured value,
    for a batch wants a place among the best, not each molecule the first. Several aims: the expected gain of volume that is
    dominated. Each is multiplied by the probability that the conditions hold.
    """

    def __init__(self, goals: Sequence[Goal], measured: np.ndarray, among: int = 1, seed: int = 0) -> None:
        """goals: on the scale of the models. measured: [M, G] values on it, NaN where not measured."""
        self.among = among
        self.goals = list(goals)
        self.aims = [i for i, goal in enumerate(goals) if goal.aim != CONDITION]
        self.conditions = [i for i, goal in enumerate(goals) if goal.aim == CONDITION]
        self.front = self._front(measured)
        self.measured, self.seed = measured, seed
        self._box: tuple[np.ndarray, float] | None = None

    def _front(self, measured: np.ndarray) -> np.ndarray:
        """[F, aims] what is known, larger is better, of molecules that meet the conditions as far as they are measured; of
        all where none does."""
        signs = np.array([self.goals[i].sign for i in self.aims])
        good = np.ones(len(measured), dtype=bool)
        for i in self.conditions:
            good &= self.goals[i].holds(measured[:, i]) | np.isnan(measured[:, i])
        for rows in (good, np.ones(len(measured), dtype=bool)):
            values = measured[rows][:, self.aims] * signs
            values = values[np.isfinite(values).all(1)]
            if len(values):
                return values
        return np.zeros((0, len(self.aims)))

    @property
    def words(self) -> str:
        """What the value of a candidate is."""
        if not self.aims:
            return "probability that all goals are met"
        over = f"the last of the {self.among} best measured values" if self.among > 1 else "the best measured value"
        kind = f"expected improvement over {over}" if len(self.aims) == 1 else "expected gain of dominated volume"
        return f"{kind}, times the probability that the conditions hold" if self.conditions else kind

    def feasible(self, found: Sequence[Prediction]) -> np.ndarray:
        """Probability [N] that all conditions hold, as if they were independent."""
        chance = np.ones(len(found[0].mean))
        for i in self.conditions:
            chance = chance * self.goals[i].chance(found[i])
        return chance

    def __call__(self, found: Sequence[Prediction]) -> np.ndarray:
        """[N], larger is better. found: a prediction for each goal."""
        chance = self.feasible(found)
        if not self.aims:
            return chance
        means = np.stack([self.goals[i].sign * found[i].mean for i in self.aims], axis=1)
        stds = np.stack([found[i].std for i in self.aims], axis=1)
        gain = self._improvement(means[:, 0], stds[:, 0]) if len(self.aims) == 1 else self._gain(means, stds)
        return gain * np.maximum(chance, FEW)

    def _improvement(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        known = np.sort(self.front[:, 0])[::-1]
        best = float(known[min(self.among, len(known)) - 1]) if len(known) else float(mean.mean())
        z = (mean - best) / std
        return std * (z * ndtr(z) + np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))

    def _gain(self, means: np.ndarray, stds: np.ndarray) -> np.ndarray:
        """Integral over the box of what no known molecule dominates: how probable is it that the candidate does?"""
        if self._box is None:
            self._box = self._free(means, stds)
        points, volume = self._box
        gain = np.zeros(len(means))
        for i in range(0, len(means), 500):
            z = (means[i : i + 500, None, :] - points[None]) / stds[i : i + 500, None, :]
            gain[i : i + 500] = ndtr(z).prod(2).sum(1) * volume / POINTS
        return gain

    def _free(self, means: np.ndarray, stds: np.ndarray) -> tuple[np.ndarray, float]:
        """(points of the box that no known molecule dominates, volume of the box)."""
        known = self.front if len(self.front) else means
        low = known.min(0)
        high = np.maximum(known.max(0), (means + 2 * stds).max(0)) + FEW
        sample = qmc.Sobol(len(self.aims), seed=np.random.default_rng(self.seed)).random(POINTS)
        points = low + sample * (high - low)
        dominated = (self.front[None] >= points[:, None]).all(2).any(1) if len(self.front) else np.zeros(POINTS, bool)
        return points[~dominated], float((high - low).prod())

    def with_expected(self, found: Sequence[Prediction], row: int) -> None:
        """Several aims: count a candidate that was picked as if it were as expected, so that the next one adds to it."""
        if len(self.aims) > 1:
            mean = np.array([self.goals[i].sign * found[i].mean[row] for i in self.aims])
            self.front = np.vstack([self.front, mean])
            if self._box is not None:
                points, volume = self._box
                self._box = points[~(mean[None] >= points).all(1)], volume
