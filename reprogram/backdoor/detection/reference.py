"""How unusual is a figure among clean models? Scores are compared with reference models, never with a fixed number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """Scores of clean reference models for one test; ``about`` says which models they are."""

    scores: tuple[float, ...]
    about: str = "clean models named by the user"

    def z(self, score: float) -> float:
        """In standard deviations above the mean of the reference models."""
        spread = max(float(np.std(self.scores, ddof=1)), 1e-6)
        return (score - float(np.mean(self.scores))) / spread

    def mad(self, score: float) -> float:
        """The same with median and MAD, which a single odd reference model does not move."""
        spread = NORMAL * float(np.median(np.abs(np.array(self.scores) - np.median(self.scores))))
        return (score - float(np.median(self.scores))) / max(spread, 1e-6)


def shipped() -> dict[str, Reference]:
    """Scores of the clean models that ``benchmarks/trojans.py`` trained."""
    data = json.loads(SHIPPED.read_text())
    return {name: Reference(tuple(scores), data["about"]) for name, scores in data["scores"].items()}


def of_models(scores: Sequence[Mapping[str, float]]) -> dict[str, Reference]:
    """References from the scores of single clean models, each ``{test: score}``."""
    names = sorted(set().union(*scores)) if scores else []
    return {name: Reference(tuple(s[name] for s in scores if name in s)) for name in names}
