"""A modality: strokes of a pen, strings of the steps ``U D L R``, drawn for a vision model to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reprogram.inputs.base import ImageInput
from reprogram.interfaces import SourceSpec, TargetInfo, TargetTask
from reprogram.modalities import Candidate, Modality
from reprogram.targets.base import StringExamples

STEPS = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
SIDE = 16


class Strokes(Modality):
    batch: ClassVar[str] = "strings"
    plain_input: ClassVar[str] = "drawn"

    def candidates(
        self, spec: SourceSpec, target: TargetInfo, source: int = 0, hints: Mapping[str, Any] | None = None
    ) -> list[Candidate]:
        plain = ("drawn", {})
        probe = Candidate("linear probe", plain, ("linear_features", {}), (plain,), "baseline", source)
        return [probe, Candidate("layers", plain, ("ridge_taps", {}), (plain,), source=source)]


@dataclass(eq=False)
class Drawn(ImageInput):
    """The pen starts in the middle and leaves a dark line."""

    def forward(self, batch: Sequence[str]) -> list[Any]:
        return [self.plain(torch.stack([draw(text) for text in batch]))]


def draw(text: str) -> Tensor:
    """[1, 16, 16] in [0, 1]."""
    image, place = torch.ones(1, SIDE, SIDE), [SIDE // 2, SIDE // 2]
    for step in text:
        down, right = STEPS[step]
        place = [min(max(place[0] + down, 0), SIDE - 1), min(max(place[1] + right, 0), SIDE - 1)]
        image[0, place[0], place[1]] = 0.0
    return image


def strokes(labels: int = 20, test_size: int = 20, seed: int = 0) -> TargetTask:
    """Wide strokes and tall ones."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.arange(labels + test_size) % 2)
    texts = ["".join(rng.choice(list("LLRRRRUD" if kind else "UUDDDDLR"), 20)) for kind in kinds]
    info = TargetInfo("strokes", "strokes", "classification", ("tall", "wide"))
    train = StringExamples(texts[:labels], kinds[:labels])
    return TargetTask(info, train, StringExamples(texts[labels:], kinds[labels:]))
