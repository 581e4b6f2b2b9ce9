"""A target task: the new job, its labelled examples, and plain features of its inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TargetInfo:
    """What a program must know of its target, small enough to be kept with it.

    kind: the name of its modality, such as ``image``, ``text`` or ``sequence``.
    problem: ``classification``, ``multilabel`` or ``regression``.
    classes: class names in column order (task names for multilabel, one name for regression).
    input_shape: (channels, height, width) of an image, None for strings.
    descriptions: what each class is, in words, for a source that reads text; empty where the names have to do.
    units: (middle, scale) of the values that the output mapping answers centred and scaled; None where it answers them as
        they are.
    white: value that is white in the image files of more than 8 bits that were learned from; None where there were none.
    """

    name: str
    kind: str
    problem: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...] | None = None
    descriptions: tuple[str, ...] = ()
    units: tuple[float, float] | None = None
    white: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``program.json`` has it; descriptions, units and white only where there are some."""
        return {k: v for k, v in asdict(self).items() if v or k not in ("descriptions", "units", "white")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TargetInfo:
        """What :meth:`to_json` wrote."""
        shape = data.get("input_shape")
        return cls(
            name=str(data["name"]),
            kind=str(data["kind"]),
            problem=str(data["problem"]),
            classes=tuple(map(str, data["classes"])),
            input_shape=None if shape is None else tuple(int(s) for s in shape),
            descriptions=tuple(map(str, data.get("descriptions", ()))),
            units=_units(data["units"], str(data["problem"])) if "units" in data else None,
            white=_white(data["white"]) if "white" in data else None,
        )


def _units(found: Any, problem: str) -> tuple[float, float]:
    """(middle, scale) of a program that may be a stranger's. Raises ValueError."""
    numbers = isinstance(found, list) and len(found) == 2 and all(type(n) in (int, float) and abs(n) < 1e300 for n in found)
    if problem != "regression" or not numbers or found[1] <= 0:
        raise ValueError("'units' of the target must be the middle and the positive scale of values")
    return float(found[0]), float(found[1])


def _white(found: Any) -> float:
    """Of a program that may be a stranger's. Raises ValueError."""
    if type(found) not in (int, float) or not 0 < found <= 65535:
        raise ValueError("'white' of the target must be a number above 0 and at most 65535")
    return float(found)


class Examples(ABC):
    """Labelled inputs that are read in batches. ``labels``: int [N], or float [N, T] (NaN = missing)."""

    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def batch(self, rows: Sequence[int] | np.ndarray) -> Any:
        """Target inputs of these rows: float [B, C, H, W] in [0, 1], or list[str]."""

    @abstractmethod
    def subset(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """The same kind of examples with only these rows, in this order."""


class Featuriser(ABC):
    """Plain features of target inputs, for baselines and hybrid programs.

    models: the simple models (:mod:`reprogram.evaluation.simple_models`) that its baselines are made with, best known
    first.
    """

    models: tuple[str, ...] = ("logistic",)

    def fit(self, inputs: Any) -> None:
        """Learn a vocabulary from all training inputs, without labels. The default has nothing to learn."""

    def variants(self) -> list[Featuriser]:
        """Other ways to read the same inputs, among which a baseline chooses on the training labels. The default: itself."""
        return [self]

    @abstractmethod
    def __call__(self, batch: Any) -> Any:
        """Target inputs -> float [B, F], an array or a sparse matrix."""


@dataclass
class TargetTask:
    """A new job: few labelled training examples, a test set that is read once, and how the two were split.

    train_rows / test_rows: where each example stands in the user's file (what ``predictions.csv`` shows).
    notes: what was skipped or repaired on the way in, one plain sentence each.
    train_columns / test_columns: the user's own further columns of each example (ids, notes), carried to
        ``predictions.csv``: name -> [N].
    pool: inputs without labels that programs may learn from, a :class:`reprogram.targets.pool.Pool`.
    """

    info: TargetInfo
    train: Examples
    test: Examples
    train_rows: Sequence[Any] = ()
    test_rows: Sequence[Any] = ()
    split: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    train_columns: dict[str, Sequence[str]] = field(default_factory=dict)
    test_columns: dict[str, Sequence[str]] = field(default_factory=dict)
    pool: Any = None

    def pictures(self, model: nn.Module) -> dict[str, bytes]:
        """Title -> PNG of what the reprogrammed model looks at in some test examples, for the report."""
        return {}

    def featurisers(self) -> dict[str, Featuriser]:
        """Names and functions of the plain features that baselines use (pixels, fingerprints, k-mers)."""
        return {}

    def checks(self) -> Sequence[Any]:
        """Hooks that only this kind of target knows; ``robustness=quick|full`` runs them when the program is final."""
        return ()


def to_tensor_labels(labels: np.ndarray) -> Tensor:
    """Integer class labels as int64 [N]; everything else as float32."""
    array = np.asarray(labels)
    if np.issubdtype(array.dtype, np.integer):
        return torch.from_numpy(array.astype(np.int64))
    return torch.from_numpy(array.astype(np.float32))
