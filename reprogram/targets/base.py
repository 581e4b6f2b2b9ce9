"""Labelled examples in memory, and drawing few of them: stratified, by seed, with every class kept in its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ConfigError, DataError
from reprogram.interfaces import Examples, Featuriser, TargetTask


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

    def __call__(self, batch: Any) -> np.ndarray:
        return batch.flatten(1).numpy()


@dataclass
class ImageTask(TargetTask):
    """A target of images."""

    extra: dict[str, Any] = field(default_factory=dict)

    def featurisers(self) -> dict[str, Featuriser]:
        return {"raw_input": Pixels()}


def draw(
    labels: np.ndarray, seed: int, shots: int | None = None, total: int | None = None, classes: Sequence[str] = ()
) -> np.ndarray:
    """Rows of a few-label subset, in random order: ``total`` stratified, else ``shots`` a class, else all.

    labels: int [N]. ``classes`` names them in errors. ``total`` goes before ``shots``; it keeps class proportions but at
    least one example of each class that exists. Regression or multilabel labels are drawn uniformly. Raises ConfigError
    or DataError.
    """
    rng = np.random.default_rng(seed)
    shots = shots if total is None else None
    for key, value in (("target.shots", shots), ("target.labels", total)):
        if value is not None and value < 1:
            raise ConfigError(f"{key}={value} must be at least 1.")
    if total is not None and total > len(labels):
        raise DataError(f"target.labels={total} asks for more examples than the {len(labels)} there are to train on.")
    if shots is None and total is None:
        return rng.permutation(len(labels))
    if labels.ndim > 1 or not np.issubdtype(labels.dtype, np.integer):
        if total is None:
            raise ConfigError("target.shots needs classes; give target.labels (in all) for this target.")
        return rng.permutation(len(labels))[:total]
    present, counts = np.unique(labels, return_counts=True)
    if shots is not None:
        poorest = int(counts.argmin())
        if counts[poorest] < shots:
            name = classes[present[poorest]] if len(classes) else present[poorest]
            raise DataError(
                f"target.shots={shots} asks for more examples than class '{name}' has ({counts[poorest]}); "
                f"choose target.shots={counts[poorest]} or fewer."
            )
        quota = np.full(len(present), shots)
    else:
        assert total is not None
        quota = _proportional(counts, total)
    picked = [rng.permutation(np.flatnonzero(labels == c))[:q] for c, q in zip(present, quota, strict=True)]
    return rng.permutation(np.concatenate(picked))


def _proportional(counts: np.ndarray, total: int) -> np.ndarray:
    """Largest-remainder shares of ``total``, at least one for each class while ``total`` allows it."""
    share = counts / counts.sum() * total
    quota = np.floor(share).astype(int)
    if total >= len(counts):
        quota = np.maximum(quota, 1)
    order = np.argsort(-(share - np.floor(share)), kind="stable")
    while quota.sum() < total:
        for i in order:
            if quota.sum() < total and quota[i] < counts[i]:
                quota[i] += 1
    while quota.sum() > total:
        quota[quota.argmax()] -= 1
    return quota


def check_classes(labels: np.ndarray, classes: Sequence[str], where: str) -> None:
    """At least two classes with examples, every label in range. ``where`` names the data in the sentence."""
    if len(labels) == 0:
        raise DataError(f"{where} has no examples.")
    if labels.min() < 0 or labels.max() >= len(classes):
        wrong = labels[(labels < 0) | (labels >= len(classes))][0]
        raise DataError(f"{where} has the label {wrong}, but the {len(classes)} classes are 0..{len(classes) - 1}.")
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(f"{where} has only the class '{classes[present[0]]}'; at least two classes are needed.")


def hold_out(labels: np.ndarray, test_size: int | float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stratified (train rows, test rows). ``test_size``: examples if >= 1, else a share."""
    from sklearn.model_selection import train_test_split

    size = int(test_size) if test_size >= 1 else float(test_size)
    if isinstance(size, int) and size >= len(labels):
        raise ConfigError(f"target.test_size={size} leaves nothing to train on: there are {len(labels)} examples.")
    classes = labels if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) else None
    try:
        train, test = train_test_split(np.arange(len(labels)), test_size=size, random_state=seed, stratify=classes)
    except ValueError:  # a class with a single example cannot be stratified
        train, test = train_test_split(np.arange(len(labels)), test_size=size, random_state=seed)
    return train, test
