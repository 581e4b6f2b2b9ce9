"""New data for a kept program: its columns, its image shape, and all of it where nothing was learned from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.interfaces import Examples, TargetInfo, TargetTask
from reprogram.modalities import modality
from reprogram.modalities.batches import is_pixels, join, take
from reprogram.pixels import resize, with_channels
from reprogram.targets.tables import spelling_key


def fitted(target: TargetTask, program: TargetInfo, examples: str = "test") -> TargetTask:
    """``target`` in the columns and the image shape that ``program`` was built for.

    examples: ``test`` is what the target holds out; ``all`` also its training examples, which is honest only for data
    that the program never learned from. Raises DataError where the two do not go together.
    """
    new = target.info
    if modality(new.kind).batch != modality(program.kind).batch or new.problem != program.problem:
        raise DataError(
            f"The program answers {program.problem} of {program.kind} inputs, "
            f"but target {new.name} is {new.problem} of {new.kind} inputs."
        )
    new = replace(new, classes=_as_the_program_spells(new, program))
    unknown = [name for name in new.classes if name not in program.classes]
    if unknown:
        raise DataError(
            f"Target {new.name} has the class '{unknown[0]}', which the program does not know; "
            f"{nearest(unknown[0], program.classes)}"
        )
    if examples not in ("test", "all"):
        raise ConfigError(f"task.examples={examples} is unknown; allowed: test, all")
    train, test = (NewData.of([part], new, program) for part in (target.train, target.test))
    rows: Sequence[Any] = target.test_rows
    columns = target.test_columns
    if examples == "all":
        test = NewData.of([target.train, target.test], new, program)
        rows = [*target.train_rows, *target.test_rows]
        columns = {name: [*target.train_columns[name], *cells] for name, cells in columns.items() if name in target.train_columns}
    split = target.split | {"examples": examples, "test_size": len(test)}
    info = replace(program, name=new.name)
    return replace(target, info=info, train=train, test=test, test_rows=rows, test_columns=columns, split=split)


def _as_the_program_spells(new: TargetInfo, program: TargetInfo) -> tuple[str, ...]:
    """Classes that differ from one of the program's by case, spaces or the encoding of accents alone are that class."""
    if new.problem == "regression":
        return program.classes
    theirs: dict[str, list[str]] = {}
    for name in program.classes:
        theirs.setdefault(spelling_key(name), []).append(name)
    alike = [theirs.get(spelling_key(name), []) for name in new.classes]
    return tuple(
        same[0] if name not in program.classes and len(same) == 1 else name for name, same in zip(new.classes, alike, strict=True)
    )


@dataclass
class NewData(Examples):
    """Rows of one or several parts, read as one. ``place``: part and row of each example, int [N, 2]."""

    parts: Sequence[Examples]
    place: np.ndarray
    labels: np.ndarray
    shape: tuple[int, ...] | None

    @classmethod
    def of(cls, parts: Sequence[Examples], new: TargetInfo, program: TargetInfo) -> NewData:
        place = np.concatenate([np.stack([np.full(len(p), i), np.arange(len(p))], 1) for i, p in enumerate(parts)])
        labels = np.concatenate([part.labels for part in parts])
        return cls(parts, place, in_columns(labels, new, program), program.input_shape)

    def batch(self, rows: Sequence[int] | np.ndarray) -> Any:
        place = self.place[np.asarray(rows, dtype=int)]
        order = np.argsort(place[:, 0], kind="stable")  # each part is read once
        read = [part.batch(place[order][place[order, 0] == i, 1]) for i, part in enumerate(self.parts)]
        back = np.argsort(order, kind="stable")
        whole = join([self._shaped(batch) if is_pixels(batch) else batch for batch in read if len(batch)] or read[:1])
        return take(whole, back.tolist())

    def subset(self, rows: Sequence[int] | np.ndarray) -> NewData:
        rows = np.asarray(rows, dtype=int)
        return replace(self, place=self.place[rows], labels=self.labels[rows])

    def _shaped(self, images: Tensor) -> Tensor:
        if self.shape is None or tuple(images.shape[1:]) == self.shape:
            return images
        channels, height, width = self.shape
        return with_channels(resize(images, (height, width)), channels)


def in_columns(labels: np.ndarray, new: TargetInfo, program: TargetInfo) -> np.ndarray:
    """Labels of the new target in the program's columns; a task that the new data lacks is missing (NaN)."""
    if program.problem == "regression":
        return labels
    columns = np.array([program.classes.index(name) for name in new.classes])
    if program.problem == "classification":
        return columns[labels]
    placed = np.full((len(labels), len(program.classes)), np.nan, dtype=np.float32)
    placed[:, columns] = labels
    return placed
