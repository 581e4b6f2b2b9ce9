"""Labelled examples in memory, with every class kept in its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import DataError
from reprogram.interfaces import Examples, Featuriser, TargetTask
from reprogram.targets.splits import draw, hold_out

__all__ = ["ArrayExamples", "ImageTask", "Pixels", "StringExamples", "check_classes", "draw", "hold_out"]


@dataclass
class ArrayExamples(Examples):
    """Images of one size in memory. ``images``: uint8 or float in [0, 1], [N, C, H, W]; ``labels`` [N] or [N, T]."""

    images: np.ndarray
    labels: np.ndarray

    def batch(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        picked = torch.from_numpy(np.ascontiguousarray(self.images[np.asarray(rows, dtype=int)]))
        return picked.float() / 255.0 if picked.dtype == torch.uint8 else picked.float()

    def subset(self, rows: Sequence[int] | np.ndarray) -> ArrayExamples:
        rows = np.asarray(rows, dtype=int)
        return ArrayExamples(self.images[rows], self.labels[rows])


@dataclass
class StringExamples(Examples):
    """Strings in memory. ``labels`` [N] or [N, T] (NaN = missing)."""

    strings: list[str]
    labels: np.ndarray

    def batch(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        return [self.strings[int(i)] for i in rows]

    def subset(self, rows: Sequence[int] | np.ndarray) -> StringExamples:
        rows = np.asarray(rows, dtype=int)
        return StringExamples(self.batch(rows), self.labels[rows])


class Pixels(Featuriser):
    """Raw pixels, flattened: what a model without any pretraining sees."""

    models = ("kernel",)

    def __call__(self, batch: Any) -> np.ndarray:
        return batch.flatten(1).numpy()


@dataclass
class ImageTask(TargetTask):
    """A target of images."""

    extra: dict[str, Any] = field(default_factory=dict)

    def featurisers(self) -> dict[str, Featuriser]:
        return {"raw_input": Pixels()}


def check_classes(labels: np.ndarray, classes: Sequence[str], where: str) -> None:
    """At least two classes with examples, every label in range. ``where`` names the data in the sentence."""
    check_labels(labels, classes, where)
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(f"{where} has only the class '{classes[present[0]]}'; at least two classes are needed.")


def check_labels(labels: np.ndarray, classes: Sequence[str], where: str) -> None:
    """At least one example, every label in range."""
    if len(labels) == 0:
        raise DataError(f"{where} has no examples.")
    if labels.min() < 0 or labels.max() >= len(classes):
        wrong = labels[(labels < 0) | (labels >= len(classes))][0]
        raise DataError(f"{where} has the label {wrong}, but the {len(classes)} classes are 0..{len(classes) - 1}.")
