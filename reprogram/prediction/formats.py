"""``task.out``: the finished ``predictions.csv`` in another format, as a stream, replaced at once."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from reprogram.errors import ConfigError, DataError

AT_ONCE = 4096
LONGEST_CELL = (1 << 31) - 1  # characters; the module csv stops at 131,072 by itself
MOST_ROWS = 1_048_575  # of a worksheet, below its header
NEEDS = {".parquet": "pyarrow", ".xlsx": "openpyxl"}
Writer = Callable[[Path, Sequence[str], Iterator[dict[str, Any]]], None]


def write_as(source: Path, out: Path, numbers: Sequence[str], more: Mapping[str, Writer]) -> Path:
    """``source`` as ``out``. numbers: columns that hold numbers, missing where a cell has none; the others are texts.
    more: suffix -> writer of the modality, ``.sdf`` for example. Raises DataError or OSError."""
    writer = ({".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet, ".xlsx": _xlsx} | dict(more))[
        out.suffix.lower()
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part{out.suffix}")
    try:
        csv.field_size_limit(LONGEST_CELL)
        with source.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            names = list(rows.fieldnames or ())
            plain = out.suffix.lower() in (".csv", ".tsv")
            writer(part, names, iter(rows) if plain else (_typed(row, numbers) for row in rows))
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out


def check_out(out: Path, more: Mapping[str, Writer]) -> None:
    """ConfigError for a format that cannot be written here, before any work."""
    allowed = [".csv", ".tsv", ".jsonl", *NEEDS, *more]
    if out.suffix.lower() not in allowed:
        raise ConfigError(f"task.out={out} must end in one of {', '.join(allowed)}.")
    needs = NEEDS.get(out.suffix.lower())
    try:
        importlib.import_module(needs or "csv")
    except ImportError as error:
        raise ConfigError(f"task.out={out} needs {needs}: pip install 'reprogram[tables]'.") from error


def _typed(row: Mapping[str, str], numbers: Sequence[str]) -> dict[str, Any]:
    return {name: _number(value) if name in numbers else value for name, value in row.items()}


def _number(value: str) -> float | None:
    """None for a cell that is empty or ``unknown``."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _csv(path: Path, names: Sequence[str], rows: Iterator[dict[str, Any]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([row[name] for name in names] for row in rows)


def _tsv(path: Path, names: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    _csv(path, names, rows, "\t")


def _jsonl(path: Path, names: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _parquet(path: Path, names: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = next(rows, None)
    numbers = {name for name in names if first is not None and not isinstance(first[name], str)}
    schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in names])
    with pq.ParquetWriter(path, schema) as writer:
        part = [] if first is None else [first, *islice(rows, AT_ONCE - 1)]
        while part:
            writer.write_table(pa.Table.from_pylist(part, schema))
            part = list(islice(rows, AT_ONCE))


def _xlsx(path: Path, names: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    book = Workbook(write_only=True)
    sheet = book.create_sheet("predictions")

    def written(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = WriteOnlyCell(sheet, ILLEGAL_CHARACTERS_RE.sub("\N{REPLACEMENT CHARACTER}", value)[:32_767])
        found.data_type = "s"  # a text that starts with = is no formula
        return found

    sheet.append([written(name) for name in names])
    for number, row in enumerate(rows, 1):
        if number > MOST_ROWS:
            raise DataError(f"A worksheet holds {MOST_ROWS:,} rows; give task.out another format, such as .parquet.")
        sheet.append([written(row[name]) for name in names])
    book.save(path)
