"""From a table of strings and labels to a target: duplicates, conflicts, split, few labels. Shared by all string targets.

What a domain adds is a way to read one string (:class:`Reader`): what it is in its one spelling, or why it cannot be
read; which examples belong together in a split; and its plain features.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.interfaces import Featuriser, TargetInfo, TargetTask
from reprogram.targets.base import StringExamples, check_classes, draw, hold_out
from reprogram.targets.splits import hold_out_groups
from reprogram.targets.tables import Labels, Table, named, read_labels, read_table


@dataclass
class Reading:
    """One string as the target keeps it; ``problem`` says why it cannot be read, ``note`` what was found or changed."""

    text: str = ""
    problem: str = ""
    note: str = ""


@dataclass
class Reader:
    """How a domain reads its strings.

    kind: of :class:`TargetInfo`. read: a cell of the table -> :class:`Reading`. groups: name of a split -> function from
    strings to group names (examples of one group stay together). featurisers: name -> plain features. similarity: [N, M]
    likeness in [0, 1] of strings to strings, for applicability; ``likeness`` is its name.
    checks: hooks that only this domain knows.
    """

    kind: str
    read: Callable[[str], Reading]
    groups: dict[str, Callable[[Sequence[str]], Sequence[Hashable]]] = field(default_factory=dict)
    featurisers: dict[str, Featuriser] = field(default_factory=dict)
    similarity: Callable[[Sequence[str], Sequence[str]], np.ndarray] | None = None
    likeness: str = ""
    pictures: Callable[[nn.Module, TargetTask], dict[str, bytes]] | None = None
    checks: tuple[Any, ...] = ()


@dataclass
class StringTask(TargetTask):
    """A target of strings.

    written: the same training and test examples as the file writes them, where the domain has one spelling of its own
    (molecules): what a program would read without canonicalisation.
    """

    reader: Reader = field(default_factory=lambda: Reader("text", plain_text))
    written: tuple[StringExamples, StringExamples] | None = None

    def featurisers(self) -> dict[str, Featuriser]:
        return self.reader.featurisers

    def checks(self) -> Sequence[Any]:
        return self.reader.checks

    def nearest(self, strings: Sequence[str]) -> np.ndarray | None:
        """[N] likeness of each string to the most similar training example, or None where the domain has no measure."""
        if self.reader.similarity is None:
            return None
        known = self.train.batch(np.arange(len(self.train)))
        return self.reader.similarity(strings, known).max(1)

    def applicability(self) -> dict[str, np.ndarray]:
        nearest = self.nearest(self.test.batch(np.arange(len(self.test))))
        return {} if nearest is None else {f"nearest_{self.reader.likeness}": nearest}

    def pictures(self, model: nn.Module) -> dict[str, bytes]:
        return {} if self.reader.pictures is None else self.reader.pictures(model, self)


def plain_text(cell: str) -> Reading:
    return Reading(" ".join(cell.split()), "" if cell.strip() else "is empty")


def string_task(
    reader: Reader,
    path: str,
    input_column: str,
    label_column: str | Sequence[str],
    *,
    labels: int | None = None,
    shots: int | None = None,
    split: str = "stratified",
    test_size: int | float = 0.2,
    test_path: str | None = None,
    allow_overlap: bool = False,
    problem: str = "auto",
    split_seed: int = 0,
    seed: int = 0,
    name: str | None = None,
    delimiter: str | None = None,
) -> TargetTask:
    """Read, clean, split and draw. Raises ConfigError or DataError in one sentence.

    labels / shots: training labels in all, or a class; None for all. split: ``stratified`` or one of the reader's groups.
    test_path: a table of its own for testing instead of a split; strings that are in both are refused unless
    ``allow_overlap``. problem: ``auto``, ``classification``, ``multilabel``, ``regression``.
    """
    table = read_table(path, delimiter)
    train = _load(reader, table, input_column, label_column, problem)
    notes = list(train.notes)
    if test_path is None:
        rows, held_out = _split(reader, train, split, test_size, split_seed)
        test = train
    else:
        other = read_table(test_path, delimiter, key="target.test_path")
        test = _same_classes(train, _load(reader, other, input_column, label_column, train.labels.problem))
        notes += test.notes
        rows, held_out = np.arange(len(train.strings)), np.arange(len(test.strings))
        _refuse_overlap(train, test, path, test_path, allow_overlap, notes)
        split = "test_path"
    values = train.labels.values
    picked = rows[draw(values[rows], seed, shots=shots, total=labels, classes=train.labels.classes)]
    if train.labels.problem == "classification":
        check_classes(values[picked], train.labels.classes, f"{path} after the split")
    info = TargetInfo(name or table.path.stem, reader.kind, train.labels.problem, train.labels.classes)
    task = StringTask(
        info,
        StringExamples([train.strings[i] for i in picked], values[picked]),
        StringExamples([test.strings[i] for i in held_out], test.labels.values[held_out]),
        [train.rows[i] for i in picked],
        [test.rows[i] for i in held_out],
        {"how": split, "seed": split_seed, "test_size": len(held_out), "available_for_training": len(rows)},
        notes,
        reader,
    )
    if any(a != b for a, b in zip(train.strings, train.cells)):
        task.written = (
            StringExamples([train.cells[i] for i in picked], values[picked]),
            StringExamples([test.cells[i] for i in held_out], test.labels.values[held_out]),
        )
    return task


@dataclass
class _Loaded:
    """Readable, different, labelled strings of one table; ``cells`` as written in the file."""

    strings: list[str]
    cells: list[str]
    rows: list[int]
    labels: Labels
    notes: list[str]


def _load(reader: Reader, table: Table, input_column: str, label_column: str | Sequence[str], problem: str) -> _Loaded:
    cells = table.column(input_column, "target.input_column")
    labels = read_labels(table, label_column, problem)
    readings = [reader.read(cell) for cell in cells]
    notes = [*table.notes, *_what_was_wrong(readings, table.rows)]
    if labels.unlabelled.any():
        notes.append(named([table.rows[i] for i in np.flatnonzero(labels.unlabelled)], "have no label: left out"))
    good = [i for i, r in enumerate(readings) if not r.problem and not labels.unlabelled[i]]
    if not good:
        raise DataError(f"No row of {table.path} can be used: {notes[-1]}")
    kept, merged = _merge([readings[i].text for i in good], labels.values[good], [table.rows[i] for i in good], notes)
    chosen = [good[i] for i in kept]
    if not chosen:
        raise DataError(f"No row of {table.path} can be used: {notes[-1]}")
    remaining = Labels(labels.problem, labels.classes, merged, np.zeros(len(chosen), dtype=bool))
    if labels.problem == "classification":
        check_classes(merged, labels.classes, str(table.path))
    return _Loaded(
        [readings[i].text for i in chosen],
        [cells[i] for i in chosen],
        [table.rows[i] for i in chosen],
        remaining,
        notes,
    )


def _what_was_wrong(readings: list[Reading], rows: list[int]) -> list[str]:
    """One note a kind of defect, and one a kind of remark."""
    notes = []
    for attribute, end in (("problem", ": left out"), ("note", "")):
        kinds: dict[str, list[int]] = {}
        for reading, row in zip(readings, rows):
            if text := getattr(reading, attribute):
                kinds.setdefault(text, []).append(row)
        notes += [named(found, text + end) for text, found in kinds.items()]
    return notes


def _merge(strings: list[str], values: np.ndarray, rows: list[int], notes: list[str]) -> tuple[list[int], np.ndarray]:
    """Each string once. Classes that disagree: the string is left out; answers of a multi-label target that disagree
    become unknown; numbers are averaged."""
    places: dict[str, list[int]] = {}
    for i, text in enumerate(strings):
        places.setdefault(text, []).append(i)
    kept, merged, repeated, conflicts = [], [], 0, []
    for found in places.values():
        group = values[found]
        known = group[~np.isnan(group).all(1)] if group.ndim > 1 else group
        differ = len(np.unique(known, axis=0)) > 1
        repeated += len(found) - 1
        if differ and values.ndim == 1:
            conflicts.append(" and ".join(str(rows[i]) for i in found[:3]))
            continue
        kept.append(found[0])
        merged.append(_agree(group, bool(np.isin(values[~np.isnan(values)], (0, 1)).all())) if differ else known[0])
    if repeated:
        notes.append(f"{repeated} rows repeat an earlier one and were merged with it.")
    if conflicts:
        notes.append(
            named(conflicts, "are the same but disagree on the class: all left out").replace("rows", "groups", 1)
        )
    return kept, np.asarray(merged, dtype=values.dtype).reshape(len(kept), *values.shape[1:])


def _agree(group: np.ndarray, binary: bool) -> np.ndarray:
    """[T] of rows [n, T] of one string: the mean of what is known; a 0/1 answer that disagrees becomes NaN."""
    known = ~np.isnan(group)
    mean = np.where(known, group, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
    return np.where((mean > 0) & (mean < 1), np.nan, mean) if binary else mean


def _split(
    reader: Reader, data: _Loaded, split: str, test_size: int | float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    if split == "stratified":
        return hold_out(data.labels.values, test_size, seed)
    if split not in reader.groups:
        raise ConfigError(f"target.split={split} is not known here; {nearest(split, ['stratified', *reader.groups])}")
    return hold_out_groups(reader.groups[split](data.strings), test_size, seed)


def _same_classes(train: _Loaded, test: _Loaded) -> _Loaded:
    """Test labels in the columns of the training classes; DataError for a class that training never saw."""
    if train.labels.problem != "classification":
        return test
    unknown = [c for c in test.labels.classes if c not in train.labels.classes]
    if unknown:
        raise DataError(f"target.test_path has the class '{unknown[0]}', which target.path has not.")
    index = np.array([train.labels.classes.index(c) for c in test.labels.classes])
    test.labels = Labels("classification", train.labels.classes, index[test.labels.values], test.labels.unlabelled)
    return test


def _refuse_overlap(train: _Loaded, test: _Loaded, path: str, test_path: str, allowed: bool, notes: list[str]) -> None:
    known = dict(zip(train.strings, train.rows))
    both = [(known[s], row) for s, row in zip(test.strings, test.rows) if s in known]
    if both and not allowed:
        first, second = both[0]
        raise DataError(
            f"{len(both)} examples are in both {path} and {test_path}, such as row {first} and row {second}; "
            "remove them, or give target.allow_overlap=true."
        )
    if both:
        notes.append(f"{len(both)} test examples are also training examples, as target.allow_overlap=true allows.")
