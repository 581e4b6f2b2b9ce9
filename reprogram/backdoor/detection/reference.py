"""How unusual is a figure among clean models? Scores are compared with reference models, never with a fixed number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

FEWEST_LABELS = 4  # fewer cannot be compared with one another
FEWEST_MODELS = 5  # fewer say nothing about the spread of clean models
NORMAL = 1.4826  # median absolute deviation of a normal distribution -> its standard deviation
SHIPPED = Path(__file__).with_name("reference.json")


def anomaly(values: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """How far each label stands above the median of all labels, in robust standard deviations [K] (MAD).

    floor: least deviation that counts, so that labels which are almost equal do not become anomalies.
    """
    middle = np.median(values)
    spread = NORMAL * np.median(np.abs(values - middle))
    return (values - middle) / max(spread, floor, 1e-12)


@dataclass(frozen=True)
class Reference:
    """Scores of clean reference models for one test; ``about`` says which models they are.

    values [R, G]: the same label by label, where the models have the labels of the one that is judged. Some labels are
    easier to reach than others in every model of the data, which only these show.
    """

    scores: tuple[float, ...]
    about: str = "clean models named by the user"
    values: np.ndarray | None = None

    def z(self, score: float) -> float:
        """In standard deviations above the mean of the reference models."""
        spread = max(float(np.std(self.scores, ddof=1)), 1e-6)
        return (score - float(np.mean(self.scores))) / spread

    def mad(self, score: float) -> float:
        """The same with median and MAD, which a single odd reference model does not move."""
        spread = NORMAL * float(np.median(np.abs(np.array(self.scores) - np.median(self.scores))))
        return (score - float(np.median(self.scores))) / max(spread, 1e-6)

    def judge(self, values: np.ndarray) -> tuple[int, float, float]:
        """(index of the most unusual of a model's values [G], its z, the same with median and MAD).

        Label by label, z is told from the largest that chance alone gives among so many labels.
        """
        if self.values is None or self.values.shape[1:] != values.shape:
            index = int(values.argmax())
            return index, self.z(float(values[index])), self.mad(float(values[index]))
        middle = np.median(self.values, 0)
        z = (values - self.values.mean(0)) / _spread(self.values.var(0, ddof=1), len(self.values))
        deviation = _spread((NORMAL * np.median(np.abs(self.values - middle), 0)) ** 2, len(self.values))
        index, usual = int(z.argmax()), _largest_by_chance(len(values))
        return index, float(z[index]) - usual, float(((values - middle) / deviation)[index]) - usual


def _largest_by_chance(count: int) -> float:
    """How far the largest of so many standard normal values lies above 0 on average (Blom 1958)."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


def _spread(variances: np.ndarray, models: int) -> np.ndarray:
    """Standard deviations [G] of a new model's values: each label's own variance is moved half way to the usual one, because
    few models say little about a single label, and the mean of few models is uncertain itself."""
    return np.sqrt(np.maximum((variances + variances.mean()) / 2 * (1 + 1 / models), 1e-12))


def shipped() -> dict[str, Reference]:
    """Scores of the clean models that ``benchmarks/trojans.py`` trained."""
    data = json.loads(SHIPPED.read_text())
    return {name: Reference(tuple(scores), data["about"]) for name, scores in data["scores"].items()}


def of_models(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Reference]:
    """References from single clean models, each ``{test: values [G]}``; label by label where all have as many values."""
    names = list(dict.fromkeys(name for one in found for name in one))
    return {name: _reference([np.asarray(one[name]) for one in found if name in one]) for name in names}


def _reference(values: Sequence[np.ndarray]) -> Reference:
    alike = len({len(v) for v in values}) == 1
    return Reference(tuple(float(v.max()) for v in values), values=np.stack(values) if alike else None)
