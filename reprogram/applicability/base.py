"""What a kept program knows of its labelled examples: sketches to compare with, never the data itself.

A sketch is what a measure makes of an example: a packed fingerprint, hashed k-mers, or the frozen model's features projected
to few half-precision numbers. ``nearest`` answers for each new input its similarity to the most similar labelled example,
which one that is, and whether the input lies outside: less similar than all but a share ``level`` of the labelled examples
are to the nearest other one (leave-one-out, counted as in conformal prediction, so that about ``level`` of further examples
of the same kind are flagged). No labels are used. Safe to load from a stranger: tensors and numbers, all checked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import ArtifactError, ReprogramError
from reprogram.interfaces import Examples, SourceOutput
from reprogram.registry import find, names

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

PACKAGE = "reprogram.applicability"
PREFIX = "applicability."  # of its tensors in a program
LEVEL = 0.05  # share of further examples of the same kind that may be flagged as outside
MOST_BYTES = 256 << 10  # of sketches in a program; more examples are thinned out
MOST_READ = 4096  # labelled examples that sketches are made of; a larger training set is sampled
MOST_ROWS = 8192  # that a stranger's program may bring
AT_ONCE = 1024  # rows compared at a time


class Measure(ABC):
    """How two inputs are compared. A dataclass whose fields are JSON values.

    similarity: its name in columns. kinds: of targets that it is made for; empty for any other. reads_outputs: needs the
    frozen model's answers to the input (those that the program asks for anyway).
    """

    similarity: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ()
    reads_outputs: ClassVar[bool] = False
    kept_as: ClassVar[torch.dtype] = torch.uint8

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def sketch(self, batch: Any, outputs: list[SourceOutput]) -> np.ndarray:
        """[B, W] as they are kept. ``outputs`` is empty unless ``reads_outputs``."""

    @abstractmethod
    def alike(self, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Similarities [N, M] of sketches, at most 1, which every example has with itself."""


class BitSets(Measure):
    """Packed bits, compared by Tanimoto's (Jaccard's) coefficient."""

    def alike(self, rows: np.ndarray, known: np.ndarray) -> np.ndarray:
        a, b = (np.unpackbits(bits, axis=1).astype(np.float32) for bits in (rows, known))
        shared = a @ b.T
        union = a.sum(1)[:, None] + b.sum(1)[None, :] - shared
        return np.divide(shared, union, out=np.ones_like(shared), where=union > 0)  # two empty sets are the same


@dataclass
class Nearest:
    """Of N inputs: similarity [N] to the most similar labelled example, its place among them [N] and in the user's file
    (None: not kept), outside [N] bool. level: None where too few examples were labelled to say what is outside."""

    measure: str
    similarity: np.ndarray
    example: np.ndarray
    row: np.ndarray | None
    outside: np.ndarray
    level: float | None

    def columns(self) -> dict[str, list[str]]:
        """For ``predictions.csv``: name -> cells."""
        cells = {f"nearest_{self.measure}": [f"{value:.4g}" for value in self.similarity]}
        cells["nearest_row"] = [str(int(i)) for i in (self.example if self.row is None else self.row)]
        flags = ["yes" if flag else "no" for flag in self.outside]
        return cells | {"outside": flags if self.level is not None else ["unknown"] * len(flags)}

    def summary(self) -> dict[str, Any]:
        """For ``result.json``."""
        share = float(self.outside.mean()) if self.level is not None and len(self.outside) else None
        median = float(np.median(self.similarity)) if len(self.similarity) else None
        return {"measure": self.measure, "median_similarity": median, "outside": share, "level": self.level}

    def note(self) -> str:
        """What the columns mean, in one sentence."""
        if self.level is None or not self.outside.any():
            return ""
        return (
            f"{int(self.outside.sum())} of {len(self.outside)} test examples are outside the training data: they are "
            f"less similar to every labelled example ({self.measure}) than all but {self.level:.0%} of the labelled ones."
        )


@dataclass(eq=False)
class Applicability:
    """sketches [M, W] of kept examples, their places [M] among the ``labelled`` ones and in the user's file (or None).

    threshold: similarity below which an input lies outside; None where it cannot be said. level: how many of further
    examples of the same kind that flags.
    """

    measure: Measure
    sketches: np.ndarray
    examples: np.ndarray
    rows: np.ndarray | None
    labelled: int
    threshold: float | None
    level: float | None

    @classmethod
    def of(cls, model: ReprogrammedModel, examples: Examples, rows: Sequence[Any] = ()) -> Applicability:
        """From the labelled examples; ``rows``: where they stand in the user's file, kept where they are numbers."""
        measure = measure_for(model.target.kind)
        picked = np.arange(len(examples))
        if len(picked) > MOST_READ:
            picked = np.sort(np.random.RandomState(0).permutation(len(picked))[:MOST_READ])
        sketches = sketch_all(model, measure, examples.subset(picked))
        kept = spread_out(measure, sketches, max(2, MOST_BYTES // (sketches.shape[1] * sketches.itemsize)))
        threshold, level = calibrate(measure, sketches, kept)
        numbers = [row for row in rows if isinstance(row, int | np.integer)]
        places = np.asarray(numbers, dtype=np.int64)[picked[kept]] if len(numbers) == len(examples) else None
        return cls(measure, sketches[kept], picked[kept], places, len(examples), threshold, level)

    def nearest(self, batch: Any, outputs: list[SourceOutput] | None = None) -> Nearest:
        """batch: target inputs. outputs: ``model.outputs(batch)``, where ``measure.reads_outputs``."""
        return self._nearest(self.measure.sketch(batch, outputs or []))

    def nearest_of(self, model: ReprogrammedModel, examples: Examples) -> Nearest:
        """Of many inputs, in batches."""
        return self._nearest(sketch_all(model, self.measure, examples))

    def _nearest(self, sketches: np.ndarray) -> Nearest:
        best, place = nearest_rows(self.measure, sketches, self.sketches)
        outside = best < self.threshold if self.threshold is not None else np.zeros(len(best), bool)
        rows = None if self.rows is None else self.rows[place]
        return Nearest(self.measure.similarity, best, self.examples[place], rows, outside, self.level)

    def tensors(self) -> dict[str, Tensor]:
        """What ``program.safetensors`` holds of it."""
        found = {
            "sketches": torch.from_numpy(self.sketches.copy()),
            "examples": torch.from_numpy(self.examples.astype(np.int64)),
        }
        if self.rows is not None:
            found["rows"] = torch.from_numpy(self.rows.astype(np.int64))
        return {PREFIX + name: tensor for name, tensor in found.items()}

    def to_json(self) -> dict[str, Any]:
        """What ``program.json`` says of it."""
        return {
            "measure": self.measure.name,
            "labelled": self.labelled,
            "threshold": self.threshold,
            "level": self.level,
        }

    @classmethod
    def load(cls, data: Any, tensors: dict[str, Tensor], where: str) -> Applicability:
        """From a program that may be a stranger's. Raises ArtifactError in one sentence."""
        if not isinstance(data, dict) or not isinstance(data.get("measure"), str):
            raise ArtifactError(f"{where}: 'applicability' is not an object that names a measure.")
        try:
            measure: Measure = find(PACKAGE, data["measure"], Measure)()
        except ReprogramError as error:
            raise ArtifactError(f"{where}: 'applicability.measure' cannot be used: {error}") from error
        labelled, numbers = data.get("labelled"), [data.get("threshold"), data.get("level")]
        if type(labelled) is not int or labelled < 1:
            raise ArtifactError(f"{where}: 'applicability.labelled' is not a number of examples.")
        if not all(n is None or (type(n) is float and -1.0 <= n <= 1.0) for n in numbers):
            raise ArtifactError(f"{where}: 'applicability.threshold' and 'level' must be null or lie in [-1, 1].")
        sketches, examples, rows = (tensors.get(PREFIX + name) for name in ("sketches", "examples", "rows"))
        _check_tensors(measure, sketches, examples, rows, labelled, where)
        assert sketches is not None and examples is not None
        places = None if rows is None else rows.numpy()
        return cls(measure, sketches.numpy(), examples.numpy(), places, labelled, numbers[0], numbers[1])


def _check_tensors(
    measure: Measure, sketches: Tensor | None, examples: Tensor | None, rows: Tensor | None, labelled: int, where: str
) -> None:
    if sketches is None or examples is None:
        raise ArtifactError(f"{where}: the tensors of 'applicability' are missing.")
    count = len(sketches) if sketches.ndim == 2 else 0
    right = sketches.dtype == measure.kept_as and 1 <= count <= MOST_ROWS and sketches.shape[1] > 0
    for places in (examples, rows):
        right &= places is None or (places.dtype == torch.int64 and places.shape == (count,))
    right = right and bool((examples >= 0).all()) and bool((examples < labelled).all())
    if not right or not bool(torch.isfinite(sketches.float()).all()):
        raise ArtifactError(f"{where}: the tensors of 'applicability' do not have the shapes and types of its measure.")


def measure_for(kind: str) -> Measure:
    """The measure that was made for this kind of target, else the one that works for any."""
    found: list[type[Measure]] = [find(PACKAGE, name, Measure) for name in names(PACKAGE)]
    made = [measure for measure in found if kind in measure.kinds]
    return (made or [measure for measure in found if not measure.kinds])[0]()


def sketch_all(model: ReprogrammedModel, measure: Measure, examples: Examples) -> np.ndarray:
    """[N, W] of all examples."""
    parts = []
    with model.batches(examples, 32, "comparing with the labelled examples") as batches:
        for batch in batches:
            parts.append(measure.sketch(batch, model.outputs(batch) if measure.reads_outputs else []))
    return np.concatenate(parts)


def nearest_rows(measure: Measure, rows: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(similarity [N], place [N]) of the most similar known row."""
    best, place = np.zeros(len(rows), np.float32), np.zeros(len(rows), int)
    for start in range(0, len(rows), AT_ONCE):
        alike = measure.alike(rows[start : start + AT_ONCE], known)
        place[start : start + AT_ONCE] = alike.argmax(1)
        best[start : start + AT_ONCE] = alike.max(1)
    return best, place


def spread_out(measure: Measure, sketches: np.ndarray, most: int) -> np.ndarray:
    """Places of at most ``most`` examples such that every example is near one of them: always the farthest next
    (Gonzalez 1985), from the first example on. All where they fit."""
    if len(sketches) <= most:
        return np.arange(len(sketches))
    kept = [0]
    best = measure.alike(sketches, sketches[:1])[:, 0]
    while len(kept) < most:
        kept.append(int(best.argmin()))
        best = np.maximum(best, measure.alike(sketches, sketches[kept[-1:]])[:, 0])
    return np.array(sorted(kept))


def calibrate(measure: Measure, sketches: np.ndarray, kept: np.ndarray) -> tuple[float | None, float | None]:
    """(threshold, level): the similarity that all but a share ``level`` of the labelled examples have to another kept one.

    With n examples the k-th lowest of their similarities flags k / (n + 1) of further ones; fewer than 1 / LEVEL examples
    cannot promise LEVEL, and flag 1 / (n + 1).
    """
    if len(sketches) < 4 or len(kept) < 2:
        return None, None
    lowest = np.zeros(len(sketches), np.float32)
    for start in range(0, len(sketches), AT_ONCE):
        alike = measure.alike(sketches[start : start + AT_ONCE], sketches[kept])
        itself = np.arange(start, start + len(alike))[:, None] == kept[None, :]
        lowest[start : start + AT_ONCE] = np.where(itself, -np.inf, alike).max(1)
    rank = max(1, int(LEVEL * (len(sketches) + 1)))
    return float(np.clip(np.sort(lowest)[rank - 1], -1.0, 1.0)), rank / (len(sketches) + 1)
