"""How far the program was from labels that it had not seen: kept with it, so that a new answer can have an interval or a set.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018, arXiv 1604.04173) on left-out scores of the training examples
(jackknife, Barber et al. 2021, arXiv 1905.02928): with n scores, a further example of the same kind lies within the
⌈(n + 1)·confidence⌉-th lowest about as often as ``confidence`` says. Values: score |label - prediction|, so the answer is an
interval. Classes: score 1 - p of the true class (Sadinle et al. 2019, arXiv 1609.00451), so it is a set of classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ArtifactError

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

MOST = 500  # scores kept; of more, evenly spaced ones, each rounded up


@dataclass(frozen=True)
class Conformal:
    """scores: ascending, [min(examples, 500)]. examples: how many they were taken from."""

    scores: tuple[float, ...]
    examples: int

    @classmethod
    def of(cls, left_out: np.ndarray, labels: np.ndarray, problem: str) -> Conformal | None:
        """left_out [N, T]: probabilities (values) of each training example without its own label, rows of NaN being left
        out; labels [N] or [N, 1]. None for many labels at once, and where no example was ever left out."""
        if problem == "multilabel" or len(left_out) != len(labels):
            return None
        if problem == "regression":
            scores = np.abs(np.asarray(labels, float).reshape(-1) - left_out[:, 0])
        else:
            scores = 1.0 - left_out[np.arange(len(labels)), np.asarray(labels, int)]
        scores = np.sort(scores[np.isfinite(scores)].astype(float)).clip(0.0)
        count = len(scores)
        if not count:
            return None
        kept = scores[_ranks(count) - 1]
        return cls(tuple(float(f"{score:.9g}") for score in kept), count)

    def reach(self, confidence: float) -> float | None:
        """The score within which a further example lies with this confidence; None where too few examples can say it."""
        rank = math.ceil((self.examples + 1) * confidence - 1e-9)
        if rank > self.examples:
            return None
        return self.scores[int(np.searchsorted(_ranks(self.examples), rank))]

    def to_json(self) -> dict[str, Any]:
        """What ``program.json`` says of it."""
        return {"examples": self.examples, "scores": list(self.scores)}

    @classmethod
    def load(cls, data: Any, where: str) -> Conformal:
        """From a program that may be a stranger's. Raises ArtifactError in one sentence."""
        count, scores = (data.get(key) for key in ("examples", "scores")) if isinstance(data, dict) else (None, None)
        if type(count) is not int or not 0 < count < 10**12 or not isinstance(scores, list):
            raise ArtifactError(f"{where}: 'conformal' does not have a number of examples and a list of scores.")
        numbers = all(type(s) in (int, float) and 0 <= s < 1e300 for s in scores)
        if not numbers or len(scores) != min(count, MOST) or sorted(scores) != scores:
            raise ArtifactError(f"{where}: 'conformal.scores' must be {min(count, MOST)} ascending numbers from 0 on.")
        return cls(tuple(map(float, scores)), count)


def keep(model: ReprogrammedModel, left_out: Tensor | None, labels: np.ndarray) -> None:
    """Keep with the program how far these answers are from the labels. left_out [N, T]: its logits (values) for each
    training example without its own label, NaN where that is not known; None where none are."""
    if left_out is None or len(left_out) != len(labels):
        return
    known = torch.isfinite(left_out).all(1)
    values = torch.full_like(left_out, float("nan"))
    values[known] = model.probabilities(left_out[known])
    model.conformal = Conformal.of(values.cpu().numpy(), labels, model.target.problem)


def _ranks(count: int) -> np.ndarray:
    """Of the scores that are kept, from 1 to ``count``."""
    kept = min(count, MOST)
    return -(-np.arange(1, kept + 1) * count // kept)
