"""Tables from the user: rows of a CSV or TSV file, and label columns as numbers. Every bad row is counted and named."""

from __future__ import annotations

import csv as csv_files
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reprogram.errors import ConfigError, DataError, nearest

MISSING = {"", "nan", "na", "n/a", "none", "null", "?"}
TRUE, FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
MOST_CLASSES = 30  # whole numbers with more different values than this are read as a quantity
PROBLEMS = ("auto", "classification", "multilabel", "regression")


@dataclass
class Table:
    """Columns of text. ``rows``: where each record stands in the file, counted as a spreadsheet does (header = 1)."""

    path: Path
    columns: dict[str, list[str]]
    rows: list[int]
    notes: list[str] = field(default_factory=list)

    def column(self, name: str, key: str) -> list[str]:
        if name not in self.columns:
            raise DataError(f"{key}={name}: {self.path} has no such column; {nearest(name, self.columns)}")
        return self.columns[name]


def read_table(path: str | Path, delimiter: str | None = None, key: str = "target.path") -> Table:
    """A file with a header line, UTF-8, comma separated (``.tsv``: by tabs). Rows of the wrong width are left out."""
    path = Path(path).expanduser()
    if delimiter is not None and len(delimiter) != 1:
        raise ConfigError(f"target.delimiter={delimiter} must be one character.")
    separator = delimiter or ("\t" if path.suffix.lower() in (".tsv", ".tab") else ",")
    csv_files.field_size_limit(1 << 24)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            records = list(csv_files.reader(file, delimiter=separator))
    except FileNotFoundError as error:
        raise DataError(f"{key}={path} does not exist.") from error
    except (OSError, UnicodeDecodeError, csv_files.Error) as error:
        raise DataError(f"{key}={path} cannot be read as UTF-8 text with columns: {error}.") from error
    if not records or not records[0]:
        raise DataError(f"{key}={path} is empty; a header line with column names is needed.")
    header = [name.strip() for name in records[0]]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{key}={path} has the column '{twice}' twice.")
    good = [(i, r) for i, r in enumerate(records[1:], 2) if len(r) == len(header)]
    wrong = [i for i, r in enumerate(records[1:], 2) if r and len(r) != len(header)]
    if not good:
        raise DataError(f"{key}={path} has no rows below its header.")
    columns = {name: [r[i].strip() for _, r in good] for i, name in enumerate(header)}
    notes = [named(wrong, f"have another number of columns than the header ({len(header)}): left out")] if wrong else []
    return Table(path, columns, [i for i, _ in good], notes)


def named(rows: Sequence[object], what: str, shown: int = 5) -> str:
    """``"3 rows WHAT (rows 4, 9, 12)."``"""
    listed = ", ".join(map(str, rows[:shown])) + (", …" if len(rows) > shown else "")
    few = len(rows) == 1
    return f"{len(rows)} {'row' if few else 'rows'} {what} ({'row' if few else 'rows'} {listed})."


def is_missing(text: str) -> bool:
    return text.strip().lower() in MISSING


@dataclass
class Labels:
    """``values``: int [N], or float [N, T] with NaN for missing; a row without any label is in ``unlabelled``."""

    problem: str
    classes: tuple[str, ...]
    values: np.ndarray
    unlabelled: np.ndarray


def read_labels(table: Table, columns: str | Sequence[str], problem: str = "auto", key: str = "label_column") -> Labels:
    """One column: classes, or values if they are numbers that are no small set of whole ones. Several: multi-label,
    or several values if any is neither 0 nor 1. Raises DataError for a column of text and numbers mixed."""
    names = [columns] if isinstance(columns, str) else list(columns)
    if problem not in PROBLEMS:
        raise ConfigError(f"target.problem={problem} is not known; {nearest(problem, PROBLEMS)}")
    if not names:
        raise ConfigError(f"target.{key} must name at least one column.")
    texts = [table.column(name, f"target.{key}") for name in names]
    if problem == "auto":
        problem = _guess(table, names, texts)
    if problem == "classification":
        if len(names) > 1:
            raise ConfigError(f"target.problem=classification reads one label column, target.{key} names {len(names)}.")
        return _classes(table, names[0], texts[0])
    values = np.stack([_numbers(table, n, t, problem) for n, t in zip(names, texts)], axis=1)
    return Labels(problem, tuple(names), values, np.isnan(values).all(1))


def _guess(table: Table, names: list[str], texts: list[list[str]]) -> str:
    if len(names) > 1:
        binary = all(t.lower() in TRUE | FALSE or is_missing(t) for column in texts for t in column)
        return "multilabel" if binary else "regression"
    known = [t for t in texts[0] if not is_missing(t)]
    numeric = [_is_number(t) for t in known]
    if any(numeric) and not all(numeric):
        odd = any(numeric) and sum(numeric) * 2 >= len(numeric)
        row = next(r for r, t in zip(table.rows, texts[0]) if not is_missing(t) and _is_number(t) != odd)
        value = texts[0][table.rows.index(row)]
        raise DataError(
            f"The label column '{names[0]}' of {table.path} mixes numbers and text: row {row} has '{value}'; "
            "mend it, or give target.problem=classification to read every value as a class name."
        )
    if not known or not numeric[0]:
        return "classification"
    values = np.array([float(t) for t in known])
    whole = bool((values == np.round(values)).all())
    return "classification" if whole and len(np.unique(values)) <= MOST_CLASSES else "regression"


def _classes(table: Table, name: str, texts: list[str]) -> Labels:
    known = sorted({_class_name(t) for t in texts if not is_missing(t)}, key=_numbers_first)
    if len(known) < 2:
        found = f"only the class '{known[0]}'" if known else "no label at all"
        raise DataError(f"The label column '{name}' of {table.path} has {found}; at least two classes are needed.")
    index = {c: i for i, c in enumerate(known)}
    values = np.array([-1 if is_missing(t) else index[_class_name(t)] for t in texts], dtype=np.int64)
    return Labels("classification", tuple(known), values, values < 0)


def _numbers(table: Table, name: str, texts: list[str], problem: str) -> np.ndarray:
    values = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        if is_missing(text):
            continue
        if problem == "multilabel":
            if text.lower() not in TRUE | FALSE:
                raise DataError(f"Column '{name}' of {table.path}, row {table.rows[i]}: '{text}' is not 0, 1 or empty.")
            values[i] = float(text.lower() in TRUE)
        elif _is_number(text):
            values[i] = float(text)
        else:
            raise DataError(f"Column '{name}' of {table.path}, row {table.rows[i]}: '{text}' is not a finite number.")
    return values


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _class_name(text: str) -> str:
    """``1`` and ``1.0`` are one class."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _numbers_first(name: str) -> tuple[bool, float, str]:
    number = _is_number(name)
    return (not number, float(name) if number else 0.0, name)
