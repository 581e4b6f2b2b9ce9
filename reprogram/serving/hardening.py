"""Certificates and votes: what makes an answer of a frozen model safer to rely on, on request.

Certificates are those of :mod:`reprogram.robustness.certification.randomized_smoothing`: the same noise for the same seed and
place in the request, so that ``robustness=…`` and a served program certify alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import DataError
from reprogram.modalities import modality
from reprogram.prediction.answers import read
from reprogram.robustness.certification.randomized_smoothing import ABSTAIN, Smoothed, Smoothing
from reprogram.serving.wishes import RefusedRequest, Wishes

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

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
