"""Inputs without labels that a program learns from, or that are to be labelled: few enough to be kept in mind at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import DataError
from reprogram.modalities import modality
from reprogram.targets.images import (
    Facts,
    Shape,
    White,
    common_shape,
    read_each,
    read_facts,
    read_header,
    read_image,
    white_of,
)
from reprogram.targets.leaks import picture_hash
from reprogram.targets.tables import named
from reprogram.targets.unlabelled import Inputs

MOST = 20_000  # inputs of a pool that are read; of more an even sample
PICTURES_AT_ONCE, STRINGS_AT_ONCE = 32, 512
SHOWN = 448  # pixels of a picture that is shown to a person


@dataclass
class Pool:
    """Inputs without labels. kind: of :class:`reprogram.interfaces.TargetInfo`.

    rows: as the user's file numbers them, or files below the folder. contents: strings in the domain's one spelling, or
    files (arrays [C, H, W] from Python). written: strings as the file has them. total: inputs before any was left out.
    shape, white: what pictures become. unread: {row: why} of pictures that could not be decoded, filled by reading.
    forbidden: hashes of test pictures; a picture that is one of them is not read.
    transductive: the test inputs are among them, as the user said.
    """

    kind: str
    rows: list[Any]
    contents: list[Any]
    written: list[str]
    total: int
    notes: list[str] = field(default_factory=list)
    shape: Shape | None = None
    white: White | None = None
    unread: dict[Any, str] = field(default_factory=dict)
    forbidden: Collection[str] = ()
    tested: int = 0
    transductive: bool = False

    def __len__(self) -> int:
        return len(self.contents)

    def batches(self) -> Iterator[tuple[np.ndarray, Any]]:
        """(places [B], batch as a model takes it); a picture that cannot be decoded is left out and remembered."""
        if not modality(self.kind).pixels:
            for start in range(0, len(self), STRINGS_AT_ONCE):
                places = np.arange(start, min(start + STRINGS_AT_ONCE, len(self)))
                yield places, [self.contents[i] for i in places]
            return
        for start in range(0, len(self), PICTURES_AT_ONCE):
            places, pixels = self._decoded(np.arange(start, min(start + PICTURES_AT_ONCE, len(self))))
            if len(places):
                yield places, pixels

    def _decoded(self, places: np.ndarray) -> tuple[np.ndarray, Tensor | None]:
        def read(place: int) -> np.ndarray:
            item = self.contents[int(place)]
            if isinstance(item, np.ndarray):
                return item
            assert self.shape is not None
            return read_image(item, self.shape, self.white)

        found, bad = read_each(read, list(places), "decoding")
        self.unread |= {self.rows[int(places[i])]: why for i, why in bad.items()}
        good = [i for i in range(len(places)) if i not in bad]
        if self.forbidden:
            kept = [i for i in good if picture_hash(found[i]) not in self.forbidden]
            self.tested += len(good) - len(kept)
            good = kept
        if not good:
            return places[:0], None
        stacked = torch.from_numpy(np.stack([found[i] for i in good]))
        return places[good], stacked.float() / (255.0 if stacked.dtype == torch.uint8 else 1.0)

    def to_show(self, place: int) -> Any:
        """One input for a person: the string as the file has it, or the whole picture [C, H, W] in its own proportions.

        Raises DataError where it cannot be read.
        """
        item = self.contents[place]
        if not isinstance(item, Path):
            return item if isinstance(item, np.ndarray) else self.written[place]
        header = read_header(item)
        share = min(1.0, SHOWN / max(header.height, header.width))
        height, width = (max(1, round(length * share)) for length in (header.height, header.width))
        return read_image(item, Shape(1 if header.grey else 3, height, width), self.white)

    def told(self) -> list[str]:
        """Notes, also on what reading found."""
        notes = list(self.notes)
        if self.unread:
            row, why = next(iter(self.unread.items()))
            notes.append(
                f"{len(self.unread)} of {self.total:,} inputs without labels cannot be read, such as {row} ({why})."
            )
        if self.tested:
            notes.append(f"{self.tested} inputs without labels are test inputs too: not learned from.")
        return notes


def gather(inputs: Inputs, wanted: Collection[str] = (), size: int | None = None) -> Pool:
    """All readable inputs of a stream, thinned evenly to :data:`MOST`; those of ``wanted`` (see :func:`key`) are kept.

    Pictures become what suits all of them (``size``: of that side). Raises DataError where none can be read.
    """
    rows, contents, written, bad, total = list[Any](), list[Any](), list[str](), dict[str, list[Any]](), 0
    column = getattr(inputs, "input_column", None)
    for found in inputs:
        total += 1
        if found.problem:
            bad.setdefault(found.problem, []).append(found.row)
            continue
        rows.append(found.row)
        contents.append(found.content)
        written.append(found.columns[column] if column else str(found.row))
    notes = [*inputs.notes, *(named(found, f"without labels {why}: left out") for why, found in bad.items())]
    pool = Pool(inputs.kind, rows, contents, written, total, notes)
    if len(pool) > MOST:
        wanted = set(wanted)
        must = [i for i in range(len(pool)) if wanted and key(pool, i) in wanted]
        places = np.unique([*np.linspace(0, len(pool) - 1, MOST).round().astype(int), *must])
        notes.append(f"Of {len(pool):,} inputs without labels {len(places):,} were read, evenly spread.")
        pool = only(pool, places)
    if modality(pool.kind).pixels:
        pool.shape, pool.white = _looked_at(pool, size, getattr(inputs, "white", None))
    else:
        pool.shape = getattr(inputs, "shape", None)
    if not len(pool):
        raise DataError(f"None of {total:,} inputs without labels can be read: {notes[-1] if notes else 'there is none'}")
    return pool


def key(pool: Pool, place: int) -> str:
    """By what an input is recognised in another file: its path below the folder, or its one spelling."""
    content = pool.contents[place]
    return content if isinstance(content, str) else str(pool.rows[place])


def only(pool: Pool, places: Sequence[int] | np.ndarray) -> Pool:
    """These inputs of a pool, in place."""
    pool.rows, pool.contents, pool.written = (
        [values[int(i)] for i in places] for values in (pool.rows, pool.contents, pool.written)
    )
    return pool


def _looked_at(pool: Pool, size: int | None, white: float | None) -> tuple[Shape, White]:
    """What pictures become and what is white in deep grey ones; files that are no pictures are left out."""
    looked, bad = read_each(read_facts, pool.contents, "looking at pictures")
    pool.unread |= {pool.rows[i]: why for i, why in bad.items()}
    facts: list[Facts] = [found for found in looked if found is not None]
    only(pool, [i for i in range(len(pool)) if i not in bad])
    shape = common_shape([f.header for f in facts], size) if facts else Shape(1, 1, 1)
    return shape, white_of(facts) if white is None else White(white, white)


