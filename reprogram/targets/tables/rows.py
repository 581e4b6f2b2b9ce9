"""Rows of a table file as a stream: whatever kind of file, however long, the memory stays the same.

    for number, cells, problem in rows("new.csv.gz"):
        ...

``number`` is the row as users see it in their file, ``cells`` are texts by column, and a row that cannot be read keeps its
place with its ``problem``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from reprogram.errors import DataError
from reprogram.targets.tables import formats
from reprogram.targets.tables.options import TableOptions
from reprogram.targets.tables.text_files import DAMAGED, TextFile, find_text, open_bytes, read_records

Records = Iterator[tuple[int, list[str]]]


class TableRow(NamedTuple):
    """number: as in the file. cells: text by column, stripped. problem: why it cannot be read, else empty."""

    number: int
    cells: dict[str, str]
    problem: str = ""


class TableRows:
    """A table file that can be read again and again, row by row. header: column names; notes: what was found."""

    def __init__(self, path: Path, header: list[str], notes: list[str], records: Callable[[], Records]) -> None:
        self.path, self.header, self.notes, self._records = path, header, notes, records

    def __iter__(self) -> Iterator[TableRow]:
        width = len(self.header)
        records = self._records()
        next(records, None)  # the header
        for number, record in records:
            cells = {name: cell.strip() for name, cell in zip(self.header, record)}
            if len(record) == width:
                yield TableRow(number, cells)
            elif len(record) > width and not any(cell.strip() for cell in record[width:]):
                yield TableRow(number, cells)  # empty cells beyond the last column, as spreadsheets leave them
            else:
                missing = {name: "" for name in self.header[len(record) :]}
                yield TableRow(number, cells | missing, f"have another number of columns than the header ({width})")


def rows(
    path: str | Path, options: TableOptions | None = None, wanted: Sequence[str] = (), key: str = "target.path"
) -> TableRows:
    """The rows of a file of text with columns, ``.xlsx``, ``.parquet``, ``.fasta`` or of a modality, packed or not.

    wanted: columns that must be there, which also tell delimiters apart. Raises DataError naming ``key``.
    """
    path, options = Path(path).expanduser(), options or TableOptions()
    _check_file(path, key)
    notes: list[str] = []
    records = _records(path, options, wanted, key, notes)
    first = next(records(), None)
    header = [] if first is None else [name.strip() for name in first[1]]
    while header and not header[-1]:
        header.pop()
    if not header:
        raise DataError(f"{key}={path} is empty; a header line with column names is needed.")
    header = [name or f"column_{i}" for i, name in enumerate(header, 1)]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{key}={path} has the column '{twice}' twice; rename one of them.")
    return TableRows(path, header, notes, records)


def _records(
    path: Path, options: TableOptions, wanted: Sequence[str], key: str, notes: list[str]
) -> Callable[[], Records]:
    """How the records of this kind of file are read, the header first."""
    kind = _kind(path, key)
    if kind == "xlsx":
        return lambda: formats.workbook(path, options.sheet, key)
    if kind == "parquet":
        return lambda: formats.parquet(path, key)
    text = find_text(path, options, wanted, key) if kind == "csv" else _plain(path, options, key)
    notes += text.notes
    if kind == "csv":
        return lambda: read_records(path, text, key)
    return lambda: formats.text_formats()[kind].records(path, text.encoding, key)


def _plain(path: Path, options: TableOptions, key: str) -> TextFile:
    given = TableOptions(encoding=options.encoding, delimiter=",")
    return find_text(path, given, (), key)


def _kind(path: Path, key: str) -> str:
    """By the first bytes, then by the ending."""
    try:
        with open_bytes(path) as file:
            start = file.read(8)
    except DAMAGED as error:
        raise DataError(f"{key}={path} cannot be read: {error or type(error).__name__}.") from error
    if not start:
        raise DataError(f"{key}={path} is empty; a header line with column names is needed.")
    if start.startswith(b"PK\x03\x04"):
        return "xlsx"
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{key}={path} is an old Excel file; save it as .xlsx or .csv.")
    return formats.format_of(path) or "csv"


def _check_file(path: Path, key: str) -> None:
    if not path.exists():
        raise DataError(f"{key}={path} does not exist.")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise DataError(f"{key}={path} is {what}; it must be a table file.")
