"""From a table of strings and labels to a target: duplicates, conflicts, split, few labels. Shared by all string targets.

What a domain adds is a way to read one string (:class:`StringReader`): what it is in its one spelling, or why it cannot be
read; which examples belong together in a split; and its plain features. :class:`StringTarget` makes a target of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_type_hints

import numpy as np
from torch import nn

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.interfaces import Featuriser, TargetInfo, TargetTask
from reprogram.plain import counted
from reprogram.ranges import Seed, Shots, TestSize
from reprogram.targets.base import StringExamples, check_classes
from reprogram.targets.censored import estimate_beyond
from reprogram.targets.descriptions import descriptions_of
from reprogram.targets.label_list import INPUT, LABEL, read_list
from reprogram.targets.merging import merge
from reprogram.targets.options import show
from reprogram.targets.pool import Pool, gather, only
from reprogram.targets.splits import draw, fewer_than_asked, hold_out, what_the_split_did
from reprogram.targets.tables import Labels, Table, TableOptions, named, read_labels, read_table
from reprogram.targets.unlabelled import StringInputs


@dataclass
class ReadCell:
    """One string as the target keeps it; ``problem`` says why it cannot be read, ``note`` what was found or changed."""

    text: str = ""
    problem: str = ""
    note: str = ""


@dataclass
class StringReader:
    """How a domain reads its strings.

    kind: of :class:`TargetInfo`. read: a cell of the table -> :class:`ReadCell`. groups: name of a split -> function from
    strings to group names (examples of one group stay together). featurisers: name -> plain features.
    checks: hooks that only this domain knows.
    """

    kind: str
    read: Callable[[str], ReadCell]
    groups: dict[str, Callable[[Sequence[str]], Sequence[Hashable]]] = field(default_factory=dict)
    featurisers: dict[str, Featuriser] = field(default_factory=dict)
    pictures: Callable[[nn.Module, TargetTask], dict[str, bytes]] | None = None
    checks: tuple[Any, ...] = ()


@dataclass
class StringTask(TargetTask):
    """A target of strings.

    written: the same training and test examples as the file writes them, where the domain has one spelling of its own:
    what a program would read without canonicalisation.
    """

    reader: StringReader = field(default_factory=lambda: StringReader("text", plain_text))
    written: tuple[StringExamples, StringExamples] | None = None

    def featurisers(self) -> dict[str, Featuriser]:
        return self.reader.featurisers

    def checks(self) -> Sequence[Any]:
        return self.reader.checks

    def pictures(self, model: nn.Module) -> dict[str, bytes]:
        return {} if self.reader.pictures is None else self.reader.pictures(model, self)


def plain_text(cell: str) -> ReadCell:
    """A cell with single spaces; an empty one is a problem."""
    return ReadCell(" ".join(cell.split()), "" if cell.strip() else "is empty")


@dataclass(frozen=True, kw_only=True)
class StringOptions(TableOptions):
    """What a user can say about a target of strings, beside how its table is read.

    labels / shots: training labels in all, or a class; None for all, ``shots=0`` for none. descriptions: class -> what it is
    in words, for outputs that read class names; a class that is not there keeps its name. split: ``stratified`` or one of the
    reader's groups. test_path: a table of its own for testing instead of a split; strings that are in both are refused unless
    ``allow_overlap``. problem: ``auto``, ``classification``, ``multilabel``, ``regression``. name: in the report.
    labels_file: a list with the columns ``input`` and ``label`` that is learned from instead of ``path``; without
    ``test_path`` nothing is tested. unlabelled: a table with the same input column, of strings without labels that programs
    may learn from. transductive: the test strings, without their labels, too.
    """

    labels: Shots = None
    shots: Shots = None
    split: str = "stratified"
    problem: str = "auto"
    test_size: TestSize = 0.2
    test_path: str | None = None
    allow_overlap: bool = False
    split_seed: Seed = 0
    seed: Seed = 0
    name: str | None = None
    descriptions: dict[str, str] | None = None
    labels_file: str | None = None
    unlabelled: str | None = None
    transductive: bool = False


class StringTarget:
    """A target made of a domain's reader: ``target(path, input_column, label_column, labels=64, …)``.

    ``read_with`` is a function from the domain's own options to its :class:`StringReader`; every other option is a field of
    :class:`StringOptions`. :meth:`inputs` reads the same files without labels, as a stream.
    """

    def __init__(self, read_with: Callable[..., StringReader]) -> None:
        self.read_with = read_with
        self.__name__, self.__module__ = read_with.__name__, read_with.__module__
        self.__doc__ = read_with.__doc__
        first = {"path": str, "input_column": str, "label_column": str | Sequence[str]}
        own = list(inspect.signature(read_with).parameters.values())
        self._own = {p.name for p in own}
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in first]
        parameters += [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        show(self, parameters, first | get_type_hints(read_with, include_extras=True), StringOptions)

    def __call__(self, path: str, input_column: str, label_column: str | Sequence[str], **options: Any) -> StringTask:
        reader, rest = self._split(options)
        return string_task(reader, path, input_column, label_column, StringOptions(**rest))

    def inputs(self, path: str, input_column: str, **options: Any) -> StringInputs:
        """Every row of a table without labels, in order; options on labels and splits are ignored."""
        reader, rest = self._split(options)
        known = {f.name for f in fields(TableOptions)}
        table = TableOptions(**{name: value for name, value in rest.items() if name in known})
        return StringInputs.of(reader, path, input_column, table)

    def _split(self, options: dict[str, Any]) -> tuple[StringReader, dict[str, Any]]:
        allowed = self._own | {f.name for f in fields(StringOptions)}
        for name in options:
            if name not in allowed:
                raise ConfigError(f"There is no option 'target.{name}'; {nearest(name, allowed)}.")
        own = {name: value for name, value in options.items() if name in self._own}
        return self.read_with(**own), {name: value for name, value in options.items() if name not in self._own}


def string_task(
    reader: StringReader, path: str, input_column: str, label_column: str | Sequence[str], options: StringOptions
) -> StringTask:
    """Read, clean, split and draw. Raises ConfigError or DataError in one sentence."""
    names = [label_column] if isinstance(label_column, str) else list(label_column)
    for key, name in (("input_column", input_column), *(("label_column", name) for name in names)):
        if [input_column, *names].count(name) > 1:
            raise ConfigError(f"target.{key}={name} is named twice: input and labels are columns of their own.")
    if options.labels_file is None:
        table = read_table(path, options=options, wanted=[input_column, *names])
        train = _load(reader, table, input_column, names, options.problem)
    else:
        table = read_list(options.labels_file, "target.labels_file", options)
        train = _load(reader, table, INPUT, [LABEL], options.problem)
    notes, split = list(train.notes), options.split
    if options.labels_file is not None and options.test_path is None:
        rows, held_out, test, split = np.arange(len(train.strings)), np.empty(0, int), train, "none"
        notes.append("No test set: what is expected of new inputs was found by cross-validation on the labels.")
    elif options.test_path is None:
        rows, held_out = _split(reader, train, options)
        test = train
        notes += what_the_split_did(train.labels.values, held_out, train.labels.classes)
    else:
        other = read_table(options.test_path, options=options, wanted=[input_column, *names], key="target.test_path")
        test = _load(reader, other, input_column, names, known=_known_as(names, train.labels))
        notes += test.notes
        rows, held_out = np.arange(len(train.strings)), np.arange(len(test.strings))
        _refuse_overlap(train, test, path, options, notes)
        split = "test_path"
    held_out = _measured(test, held_out, notes) if len(held_out) else held_out
    values = train.labels.values
    chosen = draw(values[rows], options.seed, options.shots, options.labels)
    notes += fewer_than_asked(values[rows], options.shots, options.labels, train.labels.classes)
    picked = rows[chosen]
    if train.labels.problem == "classification" and len(picked):
        check_classes(values[picked], train.labels.classes, f"{path} after the split")
    classes = train.labels.classes
    words = descriptions_of(options.descriptions, classes)
    info = TargetInfo(options.name or table.path.stem, reader.kind, train.labels.problem, classes, descriptions=words)
    described = {"how": split, "seed": options.split_seed, "test_size": len(held_out)}
    task = _task(
        reader, info, (train, picked), (test, held_out), described | {"available_for_training": len(rows)}, notes
    )
    task.pool = _pool(reader, input_column, options, task)
    return task


def _known_as(names: list[str], labels: Labels) -> Labels:
    """Training labels of a list as what test labels are read by: several values keep the names of their own columns."""
    return replace(labels, classes=tuple(names)) if labels.problem != "classification" else labels


def _pool(reader: StringReader, input_column: str, options: StringOptions, task: StringTask) -> Pool | None:
    """The strings without labels; those that are tested on are among them only if the user allows it."""
    tested = task.test.batch(range(len(task.test)))
    if options.transductive and not tested:
        raise ConfigError("target.transductive=true reads the test inputs without their labels, and there are none.")
    if options.unlabelled is None and not options.transductive:
        return None
    pool = Pool(reader.kind, [], [], [], 0)
    if options.unlabelled is not None:
        pool = gather(StringInputs.of(reader, options.unlabelled, input_column, options, "target.unlabelled"))
    forbidden = set(tested)
    kept = [i for i, text in enumerate(pool.contents) if text not in forbidden]
    pool.tested, pool.transductive = (0 if options.transductive else len(pool) - len(kept)), options.transductive
    only(pool, kept)
    if options.transductive:
        pool.contents, pool.rows = [*pool.contents, *tested], [*pool.rows, *task.test_rows]
        pool.written, pool.total = [*pool.written, *tested], pool.total + len(tested)
    if not len(pool):
        raise DataError(f"target.unlabelled={options.unlabelled} has no input but those that are tested on.")
    return pool


def _task(
    reader: StringReader,
    info: TargetInfo,
    learned: tuple[_Loaded, np.ndarray],
    tested: tuple[_Loaded, np.ndarray],
    split: dict[str, Any],
    notes: list[str],
) -> StringTask:
    (train, picked), (test, held_out) = learned, tested
    strings, values = [train.strings[i] for i in picked], train.labels.values[picked]
    if train.labels.sides is not None:
        values = estimate_beyond(values, train.labels.sides[picked], strings, reader.featurisers.values())
    truth = test.labels.values[held_out]
    if test.labels.sides is not None:
        truth = np.where(test.labels.sides[held_out] != 0, np.nan, truth)
    task = StringTask(
        info,
        StringExamples(strings, values),
        StringExamples([test.strings[i] for i in held_out], truth),
        [train.rows[i] for i in picked],
        [test.rows[i] for i in held_out],
        split,
        notes,
        train_columns={name: [cells[i] for i in picked] for name, cells in train.columns.items()},
        test_columns={name: [cells[i] for i in held_out] for name, cells in test.columns.items()},
        reader=reader,
    )
    if any(a != b for a, b in zip(train.strings, train.cells)):
        task.written = (
            StringExamples([train.cells[i] for i in picked], values),
            StringExamples([test.cells[i] for i in held_out], truth),
        )
    return task


@dataclass
class _Loaded:
    """Readable, different, labelled strings of one table; ``cells`` as written in the file, ``columns`` the user's own."""

    strings: list[str]
    cells: list[str]
    rows: list[int]
    labels: Labels
    notes: list[str]
    columns: dict[str, list[str]]


def _load(
    reader: StringReader,
    table: Table,
    input_column: str,
    label_columns: list[str],
    problem: str = "auto",
    known: Labels | None = None,
) -> _Loaded:
    cells = table.column(input_column, "target.input_column")
    labels = read_labels(table, label_columns, problem, known=known)
    readings = [reader.read(cell) for cell in cells]
    notes = [*table.notes, *_what_was_wrong(readings, table.rows), *labels.notes]
    told = np.zeros(len(cells), dtype=bool) if labels.explained is None else labels.explained
    if (labels.unlabelled & ~told).any():
        notes.append(
            named([table.rows[i] for i in np.flatnonzero(labels.unlabelled & ~told)], "have no label: left out")
        )
    good = [i for i, r in enumerate(readings) if not r.problem and not labels.unlabelled[i]]
    if not good:
        raise DataError(f"No row of {table.path} can be used: {notes[-1]}")
    kept, remaining, said = merge(
        [readings[i].text for i in good], _only(labels, good), [table.rows[i] for i in good], table.options.conflicts
    )
    notes += said
    chosen = [good[i] for i in kept]
    if not chosen:
        raise DataError(f"No row of {table.path} can be used: {notes[-1]}")
    if labels.problem == "classification" and known is None:
        check_classes(remaining.values, labels.classes, str(table.path))
    return _Loaded(
        [readings[i].text for i in chosen],
        [cells[i] for i in chosen],
        [table.rows[i] for i in chosen],
        remaining,
        notes,
        _own_columns(table, input_column, label_columns, readings, chosen),
    )


def _only(labels: Labels, rows: list[int]) -> Labels:
    sides = None if labels.sides is None else labels.sides[rows]
    return Labels(labels.problem, labels.classes, labels.values[rows], labels.unlabelled[rows], sides)


def _own_columns(
    table: Table, input_column: str, label_columns: list[str], readings: list[ReadCell], chosen: list[int]
) -> dict[str, list[str]]:
    """The user's columns other than labels, the one that names the rows first; a mol block becomes its string."""
    own = table.id_column([input_column, *label_columns])
    names = [n for n in table.columns if n not in label_columns and n != own]
    columns = {name: [table.columns[name][i] for i in chosen] for name in ([own] if own else []) + names}
    if any("\n" in cell for cell in columns[input_column]):
        columns[input_column] = [readings[i].text for i in chosen]
    return columns


def _measured(test: _Loaded, held_out: np.ndarray, notes: list[str]) -> np.ndarray:
    """Test rows without those that are bounds only: an error against a bound is no error."""
    if test.labels.sides is None:
        return held_out
    bounds = (test.labels.sides[held_out] != 0) | np.isnan(test.labels.values[held_out])
    only_bounds = bounds.all(1)
    if only_bounds.any():
        notes.append(f"{int(only_bounds.sum())} held-out rows are bounds and are not tested on.")
    if only_bounds.all():
        raise DataError("Every held-out row is a bound; give target.censored=value, or a larger target.test_size=.")
    return held_out[~only_bounds]


def _what_was_wrong(readings: list[ReadCell], rows: list[int]) -> list[str]:
    """One note a kind of defect, and one a kind of remark."""
    notes = []
    for attribute, end in (("problem", ": left out"), ("note", "")):
        kinds: dict[str, list[int]] = {}
        for reading, row in zip(readings, rows):
            if text := getattr(reading, attribute):
                kinds.setdefault(text, []).append(row)
        notes += [named(found, text + end) for text, found in kinds.items()]
    return notes


def _split(reader: StringReader, data: _Loaded, options: StringOptions) -> tuple[np.ndarray, np.ndarray]:
    if options.split != "stratified" and options.split not in reader.groups:
        allowed = ["stratified", *reader.groups]
        raise ConfigError(f"target.split={options.split} is not known here; {nearest(options.split, allowed)}")
    groups = None if options.split == "stratified" else reader.groups[options.split](data.strings)
    return hold_out(data.labels.values, options.test_size, options.split_seed, groups)


def _refuse_overlap(train: _Loaded, test: _Loaded, path: str, options: StringOptions, notes: list[str]) -> None:
    known = dict(zip(train.strings, train.rows))
    both = [(known[s], row) for s, row in zip(test.strings, test.rows) if s in known]
    if both and not options.allow_overlap:
        first, second = both[0]
        examples = counted(len(both), "example is", "examples are")
        raise DataError(
            f"{examples} in both {path} and {options.test_path}, such as row {first} and row {second}; "
            "remove them, or give target.allow_overlap=true."
        )
    if both:
        notes.append(f"{len(both)} test examples are also training examples, as target.allow_overlap=true allows.")
