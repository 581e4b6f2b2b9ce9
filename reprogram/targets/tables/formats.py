"""Kinds of table files other than text with columns. Each yields (row number, cells), the header first, as a stream.

Workbooks are numbered as their program shows them (header: row 1). Files without a header line (.fasta,
.parquet, those of modalities) are numbered by record, from 1; their header is row 0.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.modalities import known, modality
from reprogram.modalities.base import TableFile
from reprogram.targets.tables.text_files import plain_lines, suffix

LARGEST_WORKBOOK = 2 << 30  # bytes unpacked; a workbook keeps its texts in memory
LONGEST_BLOCK = 100_000  # lines of one record of a file without columns
Records = Iterator[tuple[int, list[str]]]


def workbook(path: Path, sheet: str | None, key: str) -> Records:
    """One sheet of an .xlsx file: the values that its formulas last had."""
    load_workbook = _needs("openpyxl", f"{key}={path.name}").load_workbook
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(item.file_size for item in packed.infolist())
        if size > LARGEST_WORKBOOK:
            raise DataError(f"{key}={path} unpacks to {size:,} bytes; save it as .csv or .parquet.")
        book = load_workbook(path, read_only=True, data_only=True)
        if sheet is not None and sheet not in book.sheetnames:
            raise DataError(f"target.sheet={sheet}: {path} has no such sheet; {nearest(sheet, book.sheetnames)}.")
        chosen = book[sheet] if sheet is not None else book.worksheets[0]
        chosen.reset_dimensions()  # files of other programs write them wrong
        width = 0
        for row, values in enumerate(chosen.iter_rows(values_only=True), 1):
            cells = [as_text(value) for value in values]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                width = width or len(cells)
                yield row, cells + [""] * (width - len(cells))
        book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl raises KeyError, BadZipFile, XML errors, … on damaged files
        raise DataError(f"{key}={path} cannot be read as an .xlsx workbook: {_said(error)}.") from error


def parquet(path: Path, key: str) -> Records:
    """Row numbers and cells of a Parquet file, the header first."""
    files = _needs("pyarrow.parquet", f"{key}={path.name}")
    try:
        with files.ParquetFile(path) as file:
            yield 0, list(file.schema_arrow.names)
            row = 0
            for batch in file.iter_batches(batch_size=4096):
                for values in zip(*(column.to_pylist() for column in batch.columns)):
                    row += 1
                    yield row, [as_text(value) for value in values]
    except Exception as error:  # pyarrow's own errors are many
        raise DataError(f"{key}={path} cannot be read as a Parquet file: {_said(error)}.") from error


def fasta(path: Path, encoding: str, key: str) -> Records:
    """Columns ``id``, ``description`` and ``sequence``."""
    yield 0, ["id", "description", "sequence"]
    row, name, letters = 0, "", list[str]()
    for line in plain_lines(path, encoding, key):
        if line.startswith(">"):
            if row:
                yield row, _fasta_record(name, letters)
            row, name, letters = row + 1, line[1:], []
        elif line.strip() and not line.startswith(";"):
            if not row:
                raise DataError(f"{key}={path} is no FASTA file: its first line must begin with '>'.")
            if len(letters) >= LONGEST_BLOCK:
                raise DataError(f"{key}={path}: record {row} has more than {LONGEST_BLOCK:,} lines.")
            letters.append(line.strip())
    if row:
        yield row, _fasta_record(name, letters)


def _fasta_record(name: str, letters: list[str]) -> list[str]:
    first, _, rest = name.strip().partition(" ")
    return [first, rest.strip(), "".join(letters)]


OWN: dict[str, TableFile] = {"fasta": TableFile((".fasta", ".fa", ".faa", ".fna"), "sequence", fasta)}


def text_formats() -> dict[str, TableFile]:
    """Kinds of text files without columns, by name: the toolkit's own and those that modalities bring."""
    return OWN | {name: file for kind in known() for name, file in modality(kind).table_files().items()}


def format_of(path: Path) -> str | None:
    """The kind of a text file without columns, by its ending."""
    return next((name for name, file in text_formats().items() if suffix(path) in file.endings), None)


def as_text(value: Any) -> str:
    """A cell with a type as a text table would have it: 3.0 is ``3``, a date ``2024-05-01``, nothing is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def _needs(module: str, what: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(f"{what} needs the package {package}: pip install 'reprogram[tables]'.") from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
