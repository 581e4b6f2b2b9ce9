"""A whole table in memory, for data with labels: columns of text, and what was wrong with which row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reprogram.errors import DataError, nearest
from reprogram.targets.tables.options import TableOptions
from reprogram.targets.tables.rows import rows

MISSING = {"", "nan", "na", "n/a", "none", "null", "?", "n.a.", "#n/a", "<na>"}
LARGEST_TABLE = 1 << 31  # characters of a labelled table, which is kept in memory
SINGULAR = {"have": "has", "are": "is"}
ID_NAMES = ("id", "identifier", "name", "title", "key", "code", "number", "no", "index", "sample", "compound")


@dataclass
class Table:
    """Columns of text. ``rows``: where each record stands in the file, counted as a spreadsheet does (header = 1).

    labelled_by_hand: a person's list, in which a few labels may well be of as many classes.
    """

    path: Path
    columns: dict[str, list[str]]
    rows: list[int]
    notes: list[str] = field(default_factory=list)
    options: TableOptions = field(default_factory=TableOptions)
    labelled_by_hand: bool = False

    def column(self, name: str, key: str) -> list[str]:
        """Cells of the column of that name. Raises DataError, naming ``key``, where there is none."""
        if name not in self.columns:
            raise DataError(
                f"{key}={name}: {self.path} has no such column; {nearest(name, self.columns)}"
                + ("" if len(self.columns) > 1 else "; if the columns are not separated correctly, give target.delimiter=.")
                + ("; rows without labels are predicted: task=predict." if key == "target.label_column" else "")
            )
        return self.columns[name]

    def id_column(self, other_than: Sequence[str] = ()) -> str | None:
        """The column that names the rows: the one given, else the first with such a name and no value twice."""
        if self.options.id_column is not None:
            self.column(self.options.id_column, "target.id_column")
            return self.options.id_column
        for name, values in self.columns.items():
            if (
                name not in other_than
                and looks_like_an_id(name)
                and "" not in values
                and len(set(values)) == len(values)
            ):
                return name
        return None


def looks_like_an_id(name: str) -> bool:
    """Does the name of a column say that it names the rows?"""
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    return words[-1] in ID_NAMES or words[0] == "id" or name.endswith(("ID", "Id"))


def read_table(
    path: str | Path,
    delimiter: str | None = None,
    key: str = "target.path",
    options: TableOptions | None = None,
    wanted: Sequence[str] = (),
) -> Table:
    """All rows of a table file. Rows of the wrong width are left out, and named in the notes.

    Raises DataError where there is no row, or more than memory should hold.
    """
    options = options or TableOptions(delimiter=delimiter)
    source = rows(path, options, wanted, key)
    columns: dict[str, list[str]] = {name: [] for name in source.header}
    numbers, wrong, size = list[int](), dict[str, list[int]](), 0
    for number, cells, problem in source:
        if problem:
            wrong.setdefault(problem, []).append(number)
            continue
        numbers.append(number)
        for name, cell in cells.items():
            columns[name].append(cell)
            size += len(cell)
        if size > LARGEST_TABLE:
            raise DataError(f"{key}={path} has more than {LARGEST_TABLE:,} characters; give a part of it.")
    notes = [*source.notes, *(named(found, f"{problem}: left out") for problem, found in wrong.items())]
    if not numbers:
        raise DataError(f"{key}={path} has no rows below its header" + (f": {notes[-1]}" if wrong else "."))
    return Table(source.path, columns, numbers, notes, options)


def named(rows: Sequence[object], what: str, shown: int = 5) -> str:
    """``"3 rows WHAT (rows 4, 9, 12)."``; of one row, "have" and "are" at the start of ``what`` become "has" and "is"."""
    listed = ", ".join(map(str, rows[:shown])) + (", …" if len(rows) > shown else "")
    if len(rows) == 1:
        verb, _, rest = what.partition(" ")
        return f"1 row {SINGULAR.get(verb, verb)} {rest} (row {listed})."
    return f"{len(rows)} rows {what} (rows {listed})."


def is_missing(text: str) -> bool:
    """Does the cell stand for no value (empty, ``NA``, ``nan`` …)?"""
    return text.strip().lower() in MISSING
