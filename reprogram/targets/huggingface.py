"""A dataset of the Hugging Face Hub, or one that is saved on disk: images or texts with a label column."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.interfaces import Examples, TargetInfo, TargetTask
from reprogram.plain import counted
from reprogram.ranges import Seed, Shots, Side, TestSize
from reprogram.targets.base import ArrayExamples, ImageTask, StringExamples, check_classes
from reprogram.targets.images import (
    MOST_BAD,
    Shape,
    White,
    common_shape,
    one_white,
    read_each,
    read_facts,
    read_image,
    too_many,
    white_of,
)
from reprogram.targets.leaks import contents, not_tested
from reprogram.targets.splits import draw, fewer_than_asked, hold_out, what_the_split_did


def huggingface(
    name: str,
    config: str | None = None,
    input_column: str | None = None,
    label_column: str | None = None,
    train_split: str = "train",
    test_split: str | None = "test",
    shots: Shots = 16,
    labels: Shots = None,
    seed: Seed = 0,
    size: Side | None = None,
    test_size: TestSize = 0.2,
    split_seed: Seed = 0,
) -> TargetTask:
    """A target from ``datasets.load_dataset(name, config)``, or from a folder that ``save_to_disk`` wrote.

    input_column, label_column: null takes the only image (else text) column and the only class-label column.
    test_split: null, or a split that the dataset does not have, holds out ``test_size`` of the training split.
    shots, labels, size: as for ``image_folder``. Rows that cannot be read are skipped, counted and named. A training example
    that is in the test too is not learned from.
    """
    splits = _load(name, config)
    if train_split not in splits:
        raise DataError(f"target.train_split={train_split} is not in {name}; {nearest(train_split, splits)}")
    table = splits[train_split]
    label = _label_column(table, label_column, name)
    column = _input_column(table, input_column, label, name)
    classes = _classes([s for s in splits.values() if label in s.column_names], label, name)
    reader = _Reader(name, column, label, classes)
    train = splits[train_split]
    train_labels, train_rows = reader.labels(train)
    if test_split is not None and test_split in splits:
        test = splits[test_split]
        test_labels, test_rows = reader.labels(test)
        split: dict[str, Any] = {"kind": "given", "test": test_split}
    else:
        check_classes(train_labels, classes, f"target {name}")
        kept, held = hold_out(train_labels, test_size, split_seed)
        reader.notes += what_the_split_did(train_labels, held, classes)
        test, test_labels, test_rows = train, train_labels[held], train_rows[held]
        train_labels, train_rows = train_labels[kept], train_rows[kept]
        split = {"kind": "stratified", "seed": split_seed}
    check_classes(train_labels, classes, f"target {name}")
    first = train_rows[draw(train_labels, seed, shots, labels)]
    shape = reader.shape(train, first, size) if reader.is_image(train) else None
    test_rows, test_examples = reader.examples(test, test_rows, test_labels, shape)
    train_rows, train_examples = reader.draw(
        train, (train_rows, train_labels), shape, test_examples, (seed, shots, labels)
    )
    info = TargetInfo(
        Path(name).name,
        "image" if shape is not None else "text",
        "classification",
        classes,
        None if shape is None else tuple(shape),
        white=reader.one_white,
    )
    kind = ImageTask if shape is not None else TargetTask
    return kind(
        info,
        train_examples,
        test_examples,
        train_rows=train_rows.tolist(),
        test_rows=test_rows.tolist(),
        split=split | {"test_size": len(test_examples)},
        notes=reader.notes,
    )


class _Reader:
    """Reads rows of one column, and remembers those that cannot be read."""

    def __init__(self, name: str, column: str, label: str, classes: tuple[str, ...]) -> None:
        self.name, self.column, self.label, self.classes = name, column, label, classes
        self.notes: list[str] = []
        self.white = White()
        self.one_white: float | None = None

    def is_image(self, table: Any) -> bool:
        return type(table.features[self.column]).__name__ == "Image"

    def labels(self, table: Any) -> tuple[np.ndarray, np.ndarray]:
        """(columns of the classes, row numbers) of the rows that have a label."""
        index = {name: i for i, name in enumerate(self.classes)}
        named = getattr(table.features[self.label], "names", None)
        found = [
            -1 if value is None or value == -1 else value if named is not None else index[str(value)]
            for value in table[self.label]
        ]
        labels = np.array(found, dtype=np.int64)
        if (labels < 0).any():
            rows = np.flatnonzero(labels < 0)
            one, many = f"row of {self.name} has no label and was", f"rows of {self.name} have no label and were"
            self.notes.append(f"{counted(len(rows), one, many)} skipped, the first is {rows[0]}.")
        return labels[labels >= 0], np.flatnonzero(labels >= 0)

    def encoded(self, table: Any, rows: np.ndarray) -> list[Any]:
        """Encoded bytes or the path of each image, not decoded yet."""
        from datasets import Image

        raw = table.select(rows).cast_column(self.column, Image(decode=False))[self.column]
        return [None if item is None else item.get("bytes") or item.get("path") for item in raw]

    def shape(self, table: Any, rows: np.ndarray, size: Side | None) -> Shape:
        facts, _ = read_each(_given(read_facts), self.encoded(table, rows), "looking at images")
        readable = [found for found in facts if found is not None]
        self.white = white_of(readable)
        if any(found.peak is not None for found in readable):
            self.one_white = one_white(readable, self.white)
            shown = self.white.real or self.white.whole
            self.notes.append(f"Grey images of more than 8 bits: the value {shown:g} is white.")
        if not readable:
            raise DataError(f"No image in column '{self.column}' of {self.name} can be read.")
        return common_shape([found.header for found in readable], size)

    def draw(
        self,
        table: Any,
        known: tuple[np.ndarray, np.ndarray],
        shape: Shape | None,
        test: Examples,
        drawing: tuple[int, int | None, int | None],
    ) -> tuple[np.ndarray, Examples]:
        """(row numbers, examples) of the few labels; what is in the test too is left out, and others are drawn."""
        (rows, labels), (seed, shots, total), tested, left_out = known, drawing, contents(test), 0
        before = list(self.notes)
        while True:
            self.notes[:] = before
            check_classes(labels, self.classes, f"target {self.name} without its test examples")
            chosen = draw(labels, seed, shots, total)
            found, examples = self.examples(table, rows[chosen], labels[chosen], shape)
            new = not_tested(contents(examples), tested)
            if new.all():
                break
            left_out += int((~new).sum())
            kept = ~np.isin(rows, found[~new])
            rows, labels = rows[kept], labels[kept]
        if left_out:
            self.notes.append(f"{left_out} training examples are also in the test set: not used for training.")
        self.notes += fewer_than_asked(labels, shots, total, self.classes)
        return found, examples

    def examples(
        self, table: Any, rows: np.ndarray, labels: np.ndarray, shape: Shape | None
    ) -> tuple[np.ndarray, Examples]:
        """(row numbers, examples) of the rows that can be read."""
        if shape is None:
            texts = table.select(rows)[self.column]
            bad = {
                i: "it is not a text" for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()
            }
            good = self._good(rows, bad)
            return rows[good], StringExamples([texts[int(i)] for i in good], labels[good])
        wanted = shape
        images, bad = read_each(
            _given(lambda item: read_image(item, wanted, self.white)), self.encoded(table, rows), "reading images"
        )
        good = self._good(rows, bad)
        return rows[good], ArrayExamples(np.stack([images[int(i)] for i in good]), labels[good])

    def _good(self, rows: np.ndarray, bad: dict[int, str]) -> np.ndarray:
        if bad:
            named = "; ".join(f"row {rows[i]} ({reason})" for i, reason in sorted(bad.items())[:5])
            sentence = f"{len(bad)} of {counted(len(rows), 'row')} of {self.name} cannot be read"
            if too_many(len(bad), len(rows)):
                raise DataError(f"{sentence}, more than {MOST_BAD:.0%}: {named}.")
            self.notes.append(f"{sentence} and {'was' if len(bad) == 1 else 'were'} skipped: {named}.")
        return np.array([i for i in range(len(rows)) if i not in bad], dtype=int)


def _given(function: Any) -> Any:
    def checked(item: Any) -> Any:
        if item is None:
            raise DataError("it is empty")
        return function(item)

    return checked


def _load(name: str, config: str | None) -> dict[str, Any]:
    """Splits by name."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("target=huggingface needs the package datasets: pip install 'reprogram[vision]'.") from error
    folder = Path(name).expanduser()
    if not folder.exists() and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        raise DataError(f"target.name={name} does not exist.")
    saved = any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_from_disk(str(folder)) if saved else datasets.load_dataset(name, config, **_no_code(datasets))
    except Exception as error:  # HTTP, parsing, and naming errors of several libraries
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(f"target.name={name} cannot be loaded: {text}.") from error
    finally:
        if not bars:
            datasets.enable_progress_bars()
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _no_code(datasets: Any) -> dict[str, Any]:
    """Never the loading script of a dataset: an option of older releases, which newer ones do not know."""
    known = inspect.signature(datasets.load_dataset).parameters
    return {"trust_remote_code": False} if "trust_remote_code" in known else {}


def _input_column(table: Any, given: str | None, label: str, name: str) -> str:
    if given is not None:
        return _existing(table, "input_column", given, name)
    kinds = {c: type(f).__name__ for c, f in table.features.items()}
    images = [c for c, kind in kinds.items() if kind == "Image"]
    strings = [c for c, f in table.features.items() if getattr(f, "dtype", None) in ("string", "large_string")]
    texts = [c for c in strings if c != label]
    for found in (images, texts):
        if len(found) == 1:
            return found[0]
    raise ConfigError(f"target.input_column must say which column of {name} is read: {', '.join(kinds)}.")


def _label_column(table: Any, given: str | None, name: str) -> str:
    if given is not None:
        return _existing(table, "label_column", given, name)
    found = [c for c, feature in table.features.items() if type(feature).__name__ == "ClassLabel"]
    found = found or [c for c in table.column_names if c in ("label", "labels")]
    if len(found) == 1:
        return found[0]
    raise ConfigError(
        f"target.label_column must say which column of {name} is the label: {', '.join(table.column_names)}."
    )


def _existing(table: Any, key: str, column: str, name: str) -> str:
    if column not in table.column_names:
        raise DataError(f"target.{key}={column} is not a column of {name}; {nearest(column, table.column_names)}")
    return column


def _classes(tables: list[Any], label: str, name: str) -> tuple[str, ...]:
    """The dataset's own class names, else the sorted different values of the label column in all splits."""
    feature = tables[0].features[label]
    if getattr(feature, "names", None):
        return tuple(feature.names)
    values = {value for table in tables for value in table.unique(label) if value is not None}
    if any(isinstance(value, float | list | dict) for value in values):
        raise DataError(f"target.label_column={label} of {name} does not hold classes: {str(next(iter(values)))[:40]}.")
    return tuple(map(str, sorted(values)))
