"""The two tables of a campaign: what was measured, and the candidates. Every format, delimiter, decimal and encoding that
:mod:`reprogram.targets.tables` reads; a row that cannot be used is named with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from molecules.campaign.campaign import MeasuredValues
from molecules.campaign.goals import Goal
from molecules.targets import molecule_reader
from reprogram.errors import ConfigError, DataError, nearest
from reprogram.targets.merging import merge
from reprogram.targets.strings import StringReader
from reprogram.targets.tables import (
    Labels,
    Table,
    TableOptions,
    TableRow,
    TableRows,
    named,
    read_labels,
    read_table,
    rows,
)
from reprogram.targets.tables.table import looks_like_an_id
from reprogram.targets.unlabelled import own_column

SMILES_NAMES = ("smiles", "canonical_smiles", "isomeric_smiles", "structure", "molecule", "mol")


@dataclass
class MeasuredTable:
    """measured: canonical molecules with their values. names: the user's own name of a molecule, by SMILES. goals: with the
    columns as the file spells them."""

    measured: MeasuredValues
    goals: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@contextmanager
def keys_of_the_table() -> Iterator[None]:
    """The same options are ``target.…`` of a target and ``table.…`` here; errors name the key that is typed."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise type(error)(str(error).replace("target.", "table.")) from error


def read_measured(settings: dict[str, Any], goals: dict[str, str]) -> MeasuredTable:
    """The table that ``table`` of the configuration names. Raises ConfigError and DataError in one sentence."""
    with keys_of_the_table():
        options = table_options(settings)
        table = read_table(settings["path"], options=options, key="table.path")
        column = smiles_column(list(table.columns), settings["smiles"], settings["path"], "table.smiles", "table.path")
        found: dict[str, str] = {}
        for name, text in checked_goals(goals, table, column).items():
            own = _named_like(name, table, column)
            if own in found:
                raise ConfigError(f"goals.{_plain(own)} is given twice: '{found[own]}' and '{text}' for the column '{own}'.")
            found[own] = text
        for name, text in found.items():
            Goal.parse(name, text)
        labels = read_labels(table, list(found), "regression", "goals")
        return _merged(table, column, labels, found, options)


def table_options(settings: dict[str, Any]) -> TableOptions:
    """What ``table`` says about how a file is read."""
    known = {f.name for f in fields(TableOptions)}
    return TableOptions(**{name: value for name, value in settings.items() if name in known})


def checked_goals(goals: dict[str, str], table: Table, column: str) -> dict[str, str]:
    """Raises ConfigError where there is none, with the columns that there are."""
    others = [name for name in table.columns if name != column]
    if not others:
        raise DataError(f"table.path={table.path} has no column beside '{column}'; measured values are needed.")
    if not goals:
        example = next((n for n in reversed(others) if not looks_like_an_id(n)), others[-1])
        listed = ", ".join(others[:12])
        raise ConfigError(f"goals must say what is wanted, as in goals.{_plain(example)}=maximize; columns: {listed}.")
    return goals


def smiles_column(columns: Sequence[str], given: str | None, path: object, key: str, file_key: str) -> str:
    """The column of the molecules: the one given, that of the format, or the one with such a name."""
    if given is not None:
        if given not in columns:
            raise DataError(f"{key}={given}: {path} has no such column; {nearest(given, columns)}.")
        return given
    own = own_column(str(path))
    by_name = {name.lower(): name for name in reversed(columns)}
    found = own if own in columns else next((by_name[n] for n in SMILES_NAMES if n in by_name), None)
    if found is None:
        raise DataError(f"{file_key}={path} has no column named 'smiles'; give {key}, {nearest('', columns)}.")
    return found


def _plain(name: str) -> str:
    """A column's name as it can be typed in a key."""
    return re.sub(r"\W+", "_", name).strip("_")


def _named_like(name: str, table: Table, column: str) -> str:
    """The column that ``name`` means: itself, or the only one that is spelled like it (``log_S_mol_L``: log S (mol/L))."""
    if name in table.columns:
        return name
    alike = [c for c in table.columns if c != column and _plain(c).lower() == _plain(name).lower()]
    if len(alike) == 1:
        return alike[0]
    columns = [_plain(c) for c in table.columns if c != column]
    raise ConfigError(f"goals.{name}: {table.path} has no such column; {nearest(name, columns)}.")


def _merged(
    table: Table, column: str, labels: Labels, goals: dict[str, str], options: TableOptions
) -> MeasuredTable:
    """Canonical molecules, each once; unreadable ones and rows without any value are named."""
    reader, id_column = molecule_reader("strip"), table.id_column(other_than=[column, *goals])
    kept, strings = list[int](), list[str]()
    problems: dict[str, list[int]] = {}
    for i, cell in enumerate(table.columns[column]):
        reading = reader.read(cell)
        if reading.problem or labels.unlabelled[i]:
            explained = labels.explained is not None and labels.explained[i] and not reading.problem
            problem = reading.problem or "have no measured value"
            if not explained:
                problems.setdefault(f"{problem}: left out", []).append(table.rows[i])
            continue
        if reading.note:
            problems.setdefault(reading.note, []).append(table.rows[i])
        kept.append(i)
        strings.append(reading.text)
    if not kept:
        raise DataError(f"table.path={table.path} has no molecule with a measured value.")
    sides = None if labels.sides is None else labels.sides[kept]
    part = Labels("regression", labels.classes, labels.values[kept], np.zeros(len(kept), bool), sides)
    first, found, notes = merge(strings, part, [table.rows[i] for i in kept], options.conflicts)
    names = {strings[i]: table.columns[id_column][kept[i]] for i in first} if id_column else {}
    zeros = np.zeros(found.values.shape, np.int8)
    measured = MeasuredValues([strings[i] for i in first], found.values, zeros if found.sides is None else found.sides)
    told = [*table.notes, *labels.notes, *(named(numbers, what) for what, numbers in problems.items()), *notes]
    return MeasuredTable(measured, goals, names, [note.replace("target.", "table.") for note in told])


class CandidateTable:
    """The rows of a file of candidates as a stream of molecules; columns: the user's own."""

    def __init__(self, path: str, column: str | None, settings: dict[str, Any]) -> None:
        with keys_of_the_table():
            self.options = table_options(settings | {"id_column": None})
            self.rows: TableRows = rows(path, self.options, key="candidates")
        wanted = column if column is not None else settings["smiles"] if settings["smiles"] in self.rows.header else None
        self.column = smiles_column(self.rows.header, wanted, path, "candidates_column", "candidates")
        self.reader: StringReader = molecule_reader("strip")
        self.path = Path(self.rows.path)
        self.own = [name for name in self.rows.header if name != self.column]
        self.id_column = next((name for name in self.own if looks_like_an_id(name)), None)

    def read(self, row: TableRow) -> tuple[str, str]:
        """(canonical SMILES or "", why it cannot be used or "")."""
        if row.problem:
            return "", row.problem
        reading = self.reader.read(row.cells[self.column])
        return ("", reading.problem) if reading.problem else (reading.text, "")
