"""Certificates, votes and a score for attacks: what makes an answer of a frozen model safer to rely on, on request.

Certificates are those of :mod:`reprogram.robustness.certification.randomized_smoothing`: the same noise for the same seed and
place in the request, so that ``robustness=…`` and a served program certify alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ArtifactError, DataError
from reprogram.modalities import modality
from reprogram.prediction.answers import read
from reprogram.robustness.certification.randomized_smoothing import ABSTAIN, Smoothed, Smoothing
from reprogram.serving.wishes import RefusedRequest, Wishes

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

LEAST = 0.001  # a probability that moves by less is no sign of anything
AT_ONCE = 32  # noisy images in one pass: a pass is the longest that another request waits for its turn
Model = Callable[[Tensor], Tensor]


def certify(model: Model, image: np.ndarray, wishes: Wishes, row: int) -> Smoothed:
    """The class that wins under noise, or abstention, and the l2 radius in pixels of [0, 1] within which it cannot change.

    model: images [B, C, H, W] -> logits. row: place of the image, which draws its noise. Holds with probability
    1 - ``wishes.alpha`` for the classifier that votes over noise.
    """
    smoothing = Smoothing(wishes.sigma, samples=wishes.samples, alpha=wishes.alpha, first_order=False, seed=wishes.seed)
    return smoothing.certify(in_parts(model), torch.from_numpy(image), row)


def in_parts(model: Model) -> Model:
    """The same model on few images at a time."""
    return lambda images: torch.cat([model(part) for part in images.split(AT_ONCE)])


def abstained(found: Smoothed) -> bool:
    """Was no class certified?"""
    return found.label == ABSTAIN


def vote(model: ReprogrammedModel, content: Any, wishes: Wishes, row: int, classes: Sequence[str]) -> tuple[str, float]:
    """(the class that most of ``wishes.vote`` changed copies and the input itself get, its share of the votes)."""
    copies = modality(model.target.kind).variants(content, wishes.vote, wishes.seed * 1_000_003 + row)
    if not copies:
        raise RefusedRequest(f"vote={wishes.vote}: there is no way to change {model.target.kind} inputs and keep what they mean.")
    scores = read(model, [content, *copies], compare=False).scores
    answers = Counter(int(row.argmax()) for row in scores if np.isfinite(row).all())
    if not answers:
        raise DataError("no changed copy of it has an answer")
    best, count = max(answers.items(), key=lambda found: (found[1], -found[0]))
    return classes[best], count / sum(answers.values())


def suspicion(model: ReprogrammedModel, contents: Sequence[Any]) -> np.ndarray:
    """[N] how far the answer moves when the input is simplified: pixels to fewer values and smoothed, single words left out.

    The largest l1 distance between the probabilities (values: difference). Attacks rest on what simplifying removes: feature
    squeezing (Xu et al. 2018, arXiv 1704.01155); for words as in ONION (Qi et al. 2021, arXiv 2011.10369).
    """
    kind = modality(model.target.kind)
    copies = [kind.simplified(content) for content in contents]
    owner = [place for place, some in enumerate(copies) for _ in some]
    plain = read(model, list(contents), compare=False).scores
    scores = np.zeros(len(contents))
    if owner:
        moved = read(model, [copy for some in copies for copy in some], compare=False).scores
        distances = np.nan_to_num(np.abs(moved - plain[owner]).sum(1), nan=0.0)
        np.maximum.at(scores, owner, distances)
    return scores


@dataclass(frozen=True)
class Detector:
    """An input is suspicious above ``threshold``. false_alarms: share of further honest inputs of the same kind that are,
    calibrated on so many ``examples``."""

    threshold: float
    false_alarms: float
    examples: int

    @classmethod
    def calibrated(cls, model: ReprogrammedModel, contents: Sequence[Any], level: float = 0.05) -> Detector:
        """The lowest threshold that flags at most a share ``level`` of further examples, counted as in conformal prediction.

        contents: labelled examples. With n of them at least 1 / (n + 1) is flagged.
        """
        if not detects(model):
            raise DataError(f"There is no way to simplify {model.target.kind} inputs, so none can be found suspicious.")
        scores = np.sort(suspicion(model, contents))
        rank = min(math.ceil((len(scores) + 1) * (1 - level) - 1e-9), len(scores))
        return cls(max(float(scores[rank - 1]), LEAST), 1 - rank / (len(scores) + 1), len(scores))

    @classmethod
    def load(cls, data: Any, where: str) -> Detector | None:
        """From settings; None where there is none. Raises ArtifactError."""
        if data is None:
            return None
        right = isinstance(data, dict) and set(data) == {"threshold", "false_alarms", "examples"}
        if not right or not all(type(v) in (int, float) and 0 <= v < 1e12 for v in data.values()):
            raise ArtifactError(f"{where}: 'detector' does not have threshold, false_alarms and examples as numbers.")
        return cls(float(data["threshold"]), float(data["false_alarms"]), int(data["examples"]))


def detects(model: ReprogrammedModel) -> bool:
    """Can inputs of this kind be simplified?"""
    return modality(model.target.kind).simplifies
