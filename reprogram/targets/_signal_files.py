"""Files of signals: ``.ts`` (aeon), ``.npz``, and tables, a row a signal or a row a value.

Files may come from strangers: nothing in them is executed, and a row that cannot be read is named with its reason.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.targets._signals import Signals
from reprogram.targets.tables import TableOptions, TableRows, is_missing, named, rows
from reprogram.targets.tables.table import looks_like_an_id

LOOKED_AT = 20  # rows that tell columns of numbers from others
EVEN = 0.01  # of the usual step: times that differ by less are evenly spaced
MOST_GRID = 1_000_000  # samples of one signal
MOST_BAD = 100  # lines of a .ts file that cannot be read, each read by itself
WAYS = "a .ts file, an .npz file, or a table (.csv, .tsv, .parquet, .xlsx)"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table mean what.

    label: of the class or the value. id: names the signal that a row belongs to; without it every row is one signal and all
    other columns are its samples. time, values, channel: of a table with a row a value; ``values`` may name several.
    """

    label: str | None = None
    id: str | None = None
    time: str | None = None
    values: tuple[str, ...] = ()
    channel: str | None = None
    group: str | None = None


def read_signals(path: str, columns: Columns, key: str = "target.path", labelled: bool = True) -> Signals:
    """Everything in a file. labelled: a signal without a label is left out, with a note. Raises DataError naming ``key``."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"{key}={path} is no file; signals are read from {WAYS}.")
    ending = file.suffix.lower()
    if ending == ".ts":
        found = read_ts(file, key)
    elif ending == ".npz":
        found = read_npz(file, key)
    elif columns.id is not None:
        found = _long_table(file, columns, key, labelled)
    else:
        found = _wide_table(file, columns, key, labelled)
    return _checked(found, labelled, f"{key}={path}")


def _checked(found: Signals, labelled: bool, where: str) -> Signals:
    """Without signals that have no value or, where one is needed, no label. DataError where none is left."""
    empty = [i for i, signal in enumerate(found.signals) if not np.isfinite(signal).any()]
    bare = [i for i, label in enumerate(found.labels) if labelled and label is None]
    for places, why in ((empty, "have no value: left out"), (bare, "have no label: left out")):
        if places:
            found.notes.append(named([found.rows[i] for i in places], why))
    left_out = {*empty, *bare} if labelled else set()
    if left_out and len(left_out) == len(found.signals):
        raise DataError(f"{where} has no signal to learn from: {found.notes[-1]}")
    return found.only([i for i in range(len(found.signals)) if i not in left_out])


def read_ts(file: Path, key: str) -> Signals:
    """A file of the UCR and UEA archives, by aeon; a line that it refuses is a signal without a value, noted with its reason."""
    try:
        from aeon.datasets import load_from_ts_file
    except ImportError as error:
        raise ConfigError(f"{key}={file} needs the package aeon: pip install 'reprogram[series]'.") from error
    try:
        lines = file.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{key}={file} cannot be read as text: {' '.join(str(error).split())[:160]}.") from error
    start = next((at + 1 for at, line in enumerate(lines) if line.strip().lower() == "@data"), len(lines))
    found = Signals([], [], [])
    bad: dict[int, str] = {}

    def read(part: Sequence[int]) -> None:
        """aeon reads a file or raises: where it raises, both halves are read, down to the line that it stumbles over."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "part.ts"
            copy.write_text("".join(lines[:start] + [lines[at] for at in part]))
            try:
                values, labels = load_from_ts_file(str(copy))
            except Exception as error:  # whatever the text of a stranger makes the parser raise
                if len(part) > 1 and len(bad) <= MOST_BAD:
                    read(part[: len(part) // 2])
                    read(part[len(part) // 2 :])
                else:
                    bad[part[0] + 1 if part else start] = " ".join(str(error).split())[:160]
                return
        found.signals += [np.asarray(signal, dtype=np.float32) for signal in values]
        found.labels += [str(label) for label in labels] if len(labels) else [None] * len(part)
        found.rows += [at + 1 for at in part]

    read([at for at in range(start, len(lines)) if lines[at].strip()])
    return _with_bad_lines(found, bad, f"{key}={file}")


def _with_bad_lines(found: Signals, bad: dict[int, str], where: str) -> Signals:
    """The signals of a ``.ts`` file in the order of its lines, those that could not be read without a value."""
    channels = Counter(len(signal) for signal in found.signals)
    usual = max(channels, key=channels.__getitem__, default=0)
    good = [i for i, signal in enumerate(found.signals) if len(signal) == usual]
    bad |= {row: f"{len(s)} channels, not {usual}" for s, row in zip(found.signals, found.rows, strict=True) if len(s) != usual}
    if not good or not usual or len(bad) > MOST_BAD:
        line, why = min(bad.items(), default=(0, "there is nothing behind @data"))
        raise DataError(f"{where} cannot be read as .ts: line {line}: {why}.")
    whole = found.only(good)
    for reason in dict.fromkeys(why for _, why in sorted(bad.items())):
        whole.notes.append(named([line for line, why in sorted(bad.items()) if why == reason], f"cannot be read ({reason})"))
    whole.signals += [np.full((usual, 1), np.nan, np.float32) for _ in bad]
    whole.labels += [None] * len(bad)
    whole.rows += list(bad)
    return whole.only(np.argsort(whole.rows, kind="stable"))


def read_npz(file: Path, key: str) -> Signals:
    """Arrays ``X`` [N, C, L] or [N, L], ``y`` [N] and, where they are there, ``groups`` [N] and ``rate``."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            known = {name: arrays[name] for name in ("X", "y", "groups", "rate") if name in arrays}
            names = sorted(arrays)
    except Exception as error:  # numpy, zipfile and zlib raise many of their own on damaged files
        raise DataError(f"{key}={file} cannot be read: {' '.join(str(error).split())[:160]}.") from error
    if "X" not in known or known["X"].ndim not in (2, 3) or known["X"].dtype.kind not in "fiu":
        raise DataError(f"{key}={file} needs an array of numbers X [N, C, L] or [N, L]; it has {', '.join(names)[:100]}.")
    block = known["X"].astype(np.float32)
    block = block[:, None] if block.ndim == 2 else block
    labels: list[str | None] = [None] * len(block)
    if "y" in known:
        if len(known["y"]) != len(block):
            raise DataError(f"{key}={file} has {len(block)} signals but {len(known['y'])} labels.")
        if known["y"].ndim != 1:
            raise DataError(f"{key}={file} has labels y of the shape {known['y'].shape}; one for each signal is needed.")
        labels = [None if is_missing(str(label)) else str(label) for label in known["y"].tolist()]
    groups = [str(group) for group in known["groups"].tolist()] if "groups" in known else None
    if groups is not None and len(groups) != len(block):
        raise DataError(f"{key}={file} has {len(block)} signals but {len(groups)} groups.")
    if "rate" in known and (known["rate"].size != 1 or known["rate"].dtype.kind not in "fiu" or not known["rate"] > 0):
        raise DataError(f"{key}={file} has a rate that is no number above 0; it is the samples a second.")
    rate = float(known["rate"].item()) if "rate" in known else None
    return Signals([trimmed(signal) for signal in block], labels, list(range(len(block))), groups, rate)


def trimmed(signal: np.ndarray) -> np.ndarray:
    """[C, L] without the NaN that only fill it up behind its end."""
    known = np.flatnonzero(np.isfinite(signal).any(0))
    return signal[:, : known[-1] + 1] if len(known) else signal[:, :1]


def _wide_table(file: Path, columns: Columns, key: str, labelled: bool) -> Signals:
    """A row a signal: every column that is no label and no group is one sample, in the order of the file."""
    wanted = [name for name in (columns.label, columns.group) if name is not None]
    table = rows(file, TableOptions(), wanted if labelled else (), key)
    _has(table.header, columns, key, labelled)
    samples = [name for name in table.header if name not in (columns.label, columns.group)]
    names = _count_rows(table, samples)
    notes = [*table.notes]
    if names and len(samples) - len(names) > 1:
        samples = [name for name in samples if name not in names]
        notes.append(f"The column '{names[0]}' names the rows and is no sample; rename it if it is one.")
    if not labelled:
        samples = _of_numbers(table, samples, key)
    found, bad = Signals([], [], [], None if columns.group is None else [], notes=notes), []
    for row in table:
        values = _numbers([row.cells[name] for name in samples])
        if row.problem or values is None:
            bad.append(row.number)
            if labelled:
                continue
            values = np.full(1, np.nan, np.float32)
        found.signals.append(trimmed(values[None]))
        _add(found, row.cells, columns, row.number)
    if bad and not found.signals:
        _say_what_is_no_number(table, samples, key)
    if bad:
        found.notes.append(named(bad, "have a cell that is no number"))
    return found


def _count_rows(table: TableRows, names: Sequence[str]) -> list[str]:
    """Columns of numbers, none of them twice, that say which row it is: by their name, or as the index that pandas writes
    without one. As a sample it would tell the classes of a sorted file apart."""
    first = [row.cells for row in islice(table, LOOKED_AT) if not row.problem]

    def counts(name: str) -> bool:
        cells = [row[name] for row in first]
        return len(set(cells)) == len(cells) and _numbers(cells) is not None

    return [n for n in names if (n in ("column_1", "Unnamed: 0") or looks_like_an_id(n)) and counts(n)]


def _say_what_is_no_number(table: TableRows, samples: Sequence[str], key: str) -> None:
    """DataError for a table of which no row is a signal."""
    cells = next((row.cells for row in table if not row.problem), {})
    column = next((name for name in samples if name in cells and _numbers([cells[name]]) is None), samples[0])
    raise DataError(
        f"{key}={table.path}: no row is a signal; the column '{column}' holds '{cells.get(column, '')[:40]}', "
        "which is no number (decimals have a point). Leave it out, or name target.id_column and target.value_columns where a "
        "row is one value."
    )


def _of_numbers(table: TableRows, names: Sequence[str], key: str) -> list[str]:
    """Columns that hold numbers in most of the first rows: a file without named labels may have names and notes beside.
    A column of samples stays one where a row has no number in it, which costs that row alone."""
    first = [row.cells for row in islice(table, LOOKED_AT) if not row.problem]

    def holds_numbers(name: str) -> bool:
        filled = [cells[name] for cells in first if not is_missing(cells[name])]
        return 2 * sum(_numbers([cell]) is not None for cell in filled) >= len(filled)

    found = [name for name in names if holds_numbers(name)]
    if not found:
        raise DataError(f"{key}={table.path} has no column of numbers; a row must be a signal, a cell one of its samples.")
    return found


def _long_table(file: Path, columns: Columns, key: str, labelled: bool) -> Signals:
    """A row a value, or a row a time with a column a channel."""
    values = columns.values
    if not values:
        raise ConfigError("target.id_column needs target.value_columns=[NAME] too: the columns of the values.")
    table = rows(file, TableOptions(), [str(columns.id), *values], key)
    _has(table.header, columns, key, labelled)
    cells: dict[str, dict[str, list[tuple[float, list[float]]]]] = {}
    first: dict[str, dict[str, str]] = {}
    bad = []
    for place, row in enumerate(table):
        numbers = _numbers([row.cells[name] for name in values])
        time = float(place) if columns.time is None else _time(row.cells[columns.time])
        if row.problem or numbers is None or time is None:
            bad.append(row.number)
            continue
        name = row.cells[str(columns.id)]
        channel = "" if columns.channel is None else row.cells[columns.channel]
        first.setdefault(name, row.cells)
        cells.setdefault(name, {}).setdefault(channel, []).append((time, numbers.tolist()))
    found = Signals([], [], [], None if columns.group is None else [], notes=list(table.notes))
    if bad:
        found.notes.append(named(bad, "have a value or a time that is no number: left out"))
    channels = sorted({channel for one in cells.values() for channel in one})
    step, even = _step(cells)
    if not even:
        found.notes.append(f"The times are not evenly spaced: signals were read every {step:g} on the line between them.")
    for name, one in cells.items():
        found.signals.append(_on_grid(one, channels, len(values), None if even else step))
        _add(found, first[name], columns, name)
    return found


def _step(cells: dict[str, dict[str, list[tuple[float, list[float]]]]]) -> tuple[float, bool]:
    """(the usual step between times, whether all steps are like it)."""
    steps = [np.diff(np.unique([time for time, _ in part])) for one in cells.values() for part in one.values()]
    every = np.concatenate(steps) if steps else np.ones(1)
    if not len(every):
        return 1.0, True
    usual = float(np.median(every))
    return usual, bool((np.abs(every - usual) <= EVEN * usual).all())


def _on_grid(
    one: dict[str, list[tuple[float, list[float]]]], channels: Sequence[str], columns: int, step: float | None
) -> np.ndarray:
    """[C, l] of one signal; ``step``: samples are read that far apart, None: the times are a grid already."""
    times = np.unique([time for part in one.values() for time, _ in part])
    grid = times
    if step is not None and len(times) > 1:
        count = min(int((times[-1] - times[0]) / step + 1.5), MOST_GRID)
        grid = times[0] + step * np.arange(count)
    signal = np.full((len(channels) * columns, len(grid)), np.nan, dtype=np.float32)
    for place, channel in enumerate(channels):
        part = sorted(one.get(channel, []))
        for column in range(columns):
            known = [(time, row[column]) for time, row in part if np.isfinite(row[column])]
            if not known:
                continue
            at, values = np.array(known).T
            if step is None:
                signal[place * columns + column, np.searchsorted(grid, at)] = values
            else:
                signal[place * columns + column] = np.interp(grid, at, values)
    return signal


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    """float32, NaN for missing cells; None where a cell is something else."""
    found = np.empty(len(cells), dtype=np.float32)
    for place, cell in enumerate(cells):
        try:
            found[place] = np.nan if is_missing(cell) else float(cell)
        except ValueError:
            return None
    found[~np.isfinite(found)] = np.nan
    return found


def _time(cell: str) -> float | None:
    """A number, or a date and time in ISO form as seconds; None for anything else."""
    try:
        number = float(cell)
        return number if np.isfinite(number) else None
    except ValueError:
        pass
    try:
        moment = np.datetime64(cell.replace("Z", ""), "us")  # of an empty cell: not a time
    except ValueError:
        return None
    return None if np.isnat(moment) else float(moment.astype(np.int64)) / 1e6


def _add(found: Signals, cells: dict[str, str], columns: Columns, row: Any) -> None:
    label = cells.get(columns.label or "", "")
    found.labels.append(None if is_missing(label) else label)
    found.rows.append(row)
    if found.groups is not None:
        found.groups.append(cells.get(columns.group or "", ""))


def _has(header: Sequence[str], columns: Columns, key: str, labelled: bool) -> None:
    """DataError for a column that the file lacks."""
    wanted: dict[str, str | None] = {"id_column": columns.id, "time_column": columns.time, "channel_column": columns.channel}
    if labelled:
        wanted |= {"label_column": columns.label, "groups": columns.group}
        if columns.label is None:
            raise ConfigError(f"target.label_column must name the column of the labels; {nearest('label', header)}")
    for name, column in [*wanted.items(), *(("value_columns", value) for value in columns.values)]:
        if column is not None and column not in header:
            raise DataError(f"target.{name}={column}: {key} has no such column; {nearest(column, header)}.")
