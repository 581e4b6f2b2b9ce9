"""Images in folders that are named like their classes: ``root/train/CLASS/*`` and ``root/test/CLASS/*``, or
``root/CLASS/*``, of which a part is held out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, DataError
from reprogram.interfaces import Examples, TargetInfo, TargetTask
from reprogram.ranges import Seed, Shots, Side, TestSize
from reprogram.targets.base import ArrayExamples, ImageTask, check_classes, draw, hold_out
from reprogram.targets.images import (
    IN_MEMORY,
    MOST_BAD,
    SUFFIXES,
    Header,
    ImageFiles,
    Shape,
    common_shape,
    read_each,
    read_header,
    read_image,
    too_many,
)

TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")


def image_folder(
    root: str,
    shots: Shots = 16,
    labels: Shots = None,
    seed: Seed = 0,
    size: Side | None = None,
    test_size: TestSize = 0.2,
    split_seed: Seed = 0,
) -> TargetTask:
    """A target from image files. Class names are folder names, in alphabetical order.

    shots, labels: labelled examples a class, or in all; both null takes every training image.
    size: side in pixels that images become (scaled, cut in the middle); null keeps small images that all have one size.
    test_size, split_seed: what is held out where there is no test folder.
    Files that cannot be read are skipped, counted and named in the notes; more than 5 % of them raise DataError.
    """
    if size is not None and size < 1:
        raise ConfigError(f"target.size={size} must be at least 1 pixel.")
    folder = Path(root).expanduser()
    train, test, classes = _find(folder)
    reader = _Reader(folder, len(train.files) + len(test.files))
    headers = reader.headers([*train.files, *test.files])
    train, test = train.only(headers), test.only(headers)
    if not train.files:
        raise DataError(f"target.root={root} has no readable image.")
    shape = common_shape(list(headers.values()), size)
    if test.files:
        split: dict[str, Any] = {"kind": "folders"}
    else:
        check_classes(train.labels, classes, f"target.root={root}")
        train_rows, test_rows = hold_out(train.labels, test_size, split_seed)
        train, test = train.rows(train_rows), train.rows(test_rows)
        split = {"kind": "stratified", "seed": split_seed}
    check_classes(train.labels, classes, f"target.root={root}")
    chosen, train_examples = _draw_readable(reader, train, shape, (seed, shots, labels, classes))
    test_kept, test_examples = reader.decode(test, shape, "reading test images")
    if not len(test_examples):
        raise DataError(f"target.root={root} has no readable test image.")
    notes = [*reader.notes(), *_absent(classes, chosen, test_kept)]
    return ImageTask(
        TargetInfo(folder.resolve().name, "image", "classification", classes, tuple(shape)),
        train_examples,
        test_examples,
        train_rows=chosen.names(folder),
        test_rows=test_kept.names(folder),
        split=split | {"test_size": len(test_examples)},
        notes=notes,
    )


@dataclass
class _Files:
    """Files and their labels [N]."""

    files: list[Path]
    labels: np.ndarray

    def rows(self, rows: np.ndarray) -> _Files:
        return _Files([self.files[int(row)] for row in rows], self.labels[rows])

    def only(self, readable: Any) -> _Files:
        return self.rows(np.array([i for i, file in enumerate(self.files) if file in readable], dtype=int))

    def names(self, folder: Path) -> list[str]:
        return [file.relative_to(folder).as_posix() for file in self.files]


@dataclass
class _Reader:
    """Reads files, and remembers those that cannot be read."""

    folder: Path
    total: int
    bad: dict[Path, str] = field(default_factory=dict)

    def headers(self, files: Sequence[Path]) -> dict[Path, Header]:
        found, bad = read_each(read_header, files, "looking at images")
        self._remember({files[i]: reason for i, reason in bad.items()}, len(files))
        return {file: header for file, header in zip(files, found, strict=True) if header is not None}

    def decode(self, files: _Files, shape: Shape, description: str) -> tuple[_Files, Examples]:
        """Readable files and their pixels, in memory where they fit there."""
        keep = len(files.files) * int(np.prod(shape)) <= IN_MEMORY

        def read(file: Path) -> Any:
            pixels = read_image(file, shape)
            return pixels if keep else True

        pixels, bad = read_each(read, files.files, description)
        self._remember({files.files[i]: reason for i, reason in bad.items()}, len(files.files))
        good = np.array([i for i in range(len(files.files)) if i not in bad], dtype=int)
        files = files.rows(good)
        if not keep:
            return files, ImageFiles(files.files, files.labels, shape)
        stacked = np.stack([pixels[i] for i in good]) if len(good) else np.empty((0, *shape), np.uint8)
        return files, ArrayExamples(stacked, files.labels)

    def _remember(self, bad: dict[Path, str], looked_at: int) -> None:
        self.bad |= bad
        if too_many(len(bad), looked_at):
            raise DataError(
                f"{len(bad)} of {looked_at} images in {self.folder} cannot be read, more than {MOST_BAD:.0%}: "
                f"{self._named(bad)}."
            )

    def notes(self) -> list[str]:
        if not self.bad:
            return []
        return [f"{len(self.bad)} of {self.total} images cannot be read and were skipped: {self._named(self.bad)}."]

    def _named(self, bad: dict[Path, str], shown: int = 5) -> str:
        names = [f"{file.relative_to(self.folder).as_posix()} ({reason})" for file, reason in sorted(bad.items())]
        return "; ".join(names[:shown]) + (f"; and {len(names) - shown} more" if len(names) > shown else "")


def _draw_readable(reader: _Reader, files: _Files, shape: Shape, drawing: Any) -> tuple[_Files, Examples]:
    """Draw the few labels among files that can be decoded: a damaged file that is drawn is left out, and drawn again."""
    seed, shots, total, classes = drawing
    while True:
        chosen = files.rows(draw(files.labels, seed, shots, total, classes))
        readable, examples = reader.decode(chosen, shape, "reading training images")
        if len(readable.files) == len(chosen.files) or (shots is None and total is None):
            return readable, examples
        files = files.rows(np.array([i for i, file in enumerate(files.files) if file not in reader.bad], dtype=int))


def _find(folder: Path) -> tuple[_Files, _Files, tuple[str, ...]]:
    """(training files, test files, class names); test files are empty where one folder holds both."""
    if not folder.exists():
        raise DataError(f"target.root={folder} does not exist.")
    if not folder.is_dir():
        raise DataError(f"target.root={folder} is a file; it must be a folder with one folder a class.")
    inside = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    train = next((inside[name] for name in TRAIN if name in inside), None)
    test = next((inside[name] for name in TEST if name in inside), None)
    if train is not None and test is None and len(inside) == 1:
        folder, train = train, None
    roots = [folder] if train is None or test is None else [train, test]
    found = [_by_class(root) for root in roots]
    classes = tuple(sorted(set().union(*found)))
    if not classes:
        raise DataError(f"target.root={folder} holds no images; one folder a class, with files such as {SUFFIXES[0]}.")
    listed = [_listed(by_class, classes) for by_class in found]
    return listed[0], listed[1] if len(listed) == 2 else _Files([], np.empty(0, np.int64)), classes


def _by_class(root: Path) -> dict[str, list[Path]]:
    """Image files under each class folder, at any depth, sorted; folders without any are no class."""
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = [
            Path(where) / name
            for where, _folders, names in os.walk(folder)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
        if files:
            found[folder.name] = sorted(files)
    return found


def _listed(by_class: dict[str, list[Path]], classes: Sequence[str]) -> _Files:
    pairs = [(file, column) for column, name in enumerate(classes) for file in by_class.get(name, [])]
    return _Files([file for file, _ in pairs], np.array([column for _, column in pairs], dtype=np.int64))


def _absent(classes: Sequence[str], train: _Files, test: _Files) -> list[str]:
    """A class without examples keeps its column, and is told."""
    notes = []
    for files, which in ((train, "training"), (test, "test")):
        missing = [name for column, name in enumerate(classes) if column not in files.labels]
        if missing:
            notes.append(f"No {which} image of: {', '.join(missing[:10])}{' …' if len(missing) > 10 else ''}.")
    return notes
