"""Text files with columns: which encoding, which delimiter, and records one after the other in constant memory.

The row number of a record is that of a spreadsheet: the header is row 1, a cell of several lines counts once, an empty line
counts too.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from reprogram.errors import DataError
from reprogram.plain import counted
from reprogram.targets.tables.options import TableOptions

DELIMITERS = (",", ";", "\t", "|")
LONGEST_LINE = 1 << 24  # characters; a table has no longer ones, and a file without line ends must not fill the memory
LONGEST_RECORD = 1000  # lines of one record; more means that a quotation mark was never closed
END = "\x00end"  # a last line of our own: it becomes part of a cell where a quotation mark is open to the end of the file
PIECE = 1 << 20
LOOKED_AT = 200  # records that the delimiter is chosen by
_MARKS = (  # byte order marks, the longer ones first
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OPENERS: tuple[tuple[bytes, Callable[[Path, str], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)


class TextFile(NamedTuple):
    """How a text file is read; ``notes`` say what was found rather than given."""

    encoding: str
    delimiter: str
    notes: tuple[str, ...] = ()


def open_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where it is gzip, bzip2 or xz, whatever its name is."""
    with path.open("rb") as file:
        start = file.read(8)
    for mark, opener in _OPENERS:
        if start.startswith(mark):
            return opener(path, "rb")
    return path.open("rb")


def find_text(path: Path, options: TableOptions, wanted: Sequence[str], key: str) -> TextFile:
    """Encoding and delimiter of a file. ``wanted``: columns that it must have, which tell delimiters apart."""
    encoding, delimiter, notes = options.encoding, options.delimiter, list[str]()
    try:
        if encoding is None:
            encoding, remark = find_encoding(path, key)
            notes += [remark] if remark else []
        found = delimiter or find_delimiter(path, encoding, wanted, key)
    except UnicodeDecodeError as error:
        raise not_this_encoding(path, encoding or "", 0, error, key) from error
    except DAMAGED as error:
        raise DataError(f"{key}={path} cannot be read: {error or type(error).__name__}.") from error
    if delimiter is None:
        delimiter = found
        usual = "\t" if suffix(path) in (".tsv", ".tab") else ","
        if delimiter != usual:
            notes.append(f"The columns of {path.name} are separated by {readable(delimiter)} (target.delimiter=).")
    return TextFile(encoding, delimiter, tuple(notes))


def suffix(path: Path) -> str:
    """The ending, without that of a compression."""
    if path.suffix.lower() in (".gz", ".bz2", ".xz"):
        path = path.with_suffix("")
    return path.suffix.lower()


def find_encoding(path: Path, key: str) -> tuple[str, str]:
    """(encoding, a note where it is not UTF-8). The whole file is looked at, piece by piece."""
    with open_bytes(path) as file:
        start = file.read(PIECE)
        for mark, name in _MARKS:
            if start.startswith(mark):
                return name, "" if name == "utf-8-sig" else f"{path.name} is {name.upper()} text."
        if (guess := _by_zeros(start)) is not None:
            return guess, f"{path.name} was read as {guess.upper()} text (target.encoding=)."
        if b"\x00" in start:
            raise DataError(
                f"{key}={path} is not a table of text: it has zero bytes; save it as CSV, .xlsx or .parquet."
            )
        decoder, seen, piece = codecs.getincrementaldecoder("utf-8")(), bytearray(256), start
        try:
            while piece:
                decoder.decode(piece)
                piece = file.read(PIECE)
            decoder.decode(b"", True)
            return "utf-8", ""
        except UnicodeDecodeError:
            pass
        while piece:
            for byte in set(piece):
                seen[byte] = 1
            piece = file.read(PIECE)
    undefined = any(seen[byte] for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))
    name = "latin-1" if undefined else "cp1252"
    return name, (
        f"{path.name} is not UTF-8 and was read as {name} (Western European); if its accented letters look wrong, "
        "set target.encoding=."
    )


def _by_zeros(start: bytes) -> str | None:
    """UTF-16 without a mark: every second byte of plain text is zero."""
    pairs = len(start) // 2
    if pairs < 2:
        return None
    even, odd = start[0 : 2 * pairs : 2].count(0), start[1 : 2 * pairs : 2].count(0)
    if odd > 0.6 * pairs and even < 0.05 * pairs:
        return "utf-16-le"
    return "utf-16-be" if even > 0.6 * pairs and odd < 0.05 * pairs else None


def find_delimiter(path: Path, encoding: str, wanted: Sequence[str], key: str) -> str:
    """The delimiter under which the columns asked for are there, the records are as wide as the header, and there are most.

    A file of one column has none; the one that leaves its cells whole is taken.
    """
    usual = "\t" if suffix(path) in (".tsv", ".tab") else ","
    csv.field_size_limit(LONGEST_LINE)
    with open_text(path, encoding) as file:
        lines = list(islice(_lines(file, path, key), 4 * LOOKED_AT))

    def merit(delimiter: str) -> tuple[int, bool, float, int, bool]:
        try:
            parsed = [r for r in islice(csv.reader(lines, delimiter=delimiter), LOOKED_AT) if r]
        except csv.Error:
            return (0, False, 0.0, 0, False)
        if not parsed:
            return (0, False, 0.0, 0, False)
        header = [name.strip() for name in parsed[0]]
        fit = sum(len(r) == len(header) for r in parsed) / len(parsed)
        several = len(header) > 1 and fit > 0.5
        return (sum(n in header for n in wanted), several, round(fit, 1), len(header), delimiter == usual)

    return max(DELIMITERS, key=merit)


def open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    """The file as text, unpacked."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, newline="")  # type: ignore[type-var]


def read_records(path: Path, text: TextFile, key: str) -> Iterator[tuple[int, list[str]]]:
    """(row number, cells) of every record that is not empty, the header first. DataError names what cannot be read."""
    csv.field_size_limit(LONGEST_LINE)
    row = 0
    try:
        with open_text(path, text.encoding) as file:
            reader = csv.reader(chain(_lines(file, path, key), [END]), delimiter=text.delimiter)
            before = 0
            for row, record in enumerate(reader, 1):
                if record == [END]:
                    return
                lines, open_ended = reader.line_num - before, bool(record) and record[-1].endswith(END)
                if lines > LONGEST_RECORD or open_ended:
                    raise DataError(
                        f"{key}={path}: row {row} runs over {counted(lines - open_ended, 'line')}; a quotation mark in it is not "
                        "closed."
                    )
                before = reader.line_num
                if record:
                    yield row, record
    except UnicodeDecodeError as error:
        raise not_this_encoding(path, text.encoding, row, error, key) from error
    except csv.Error as error:
        raise DataError(f"{key}={path} cannot be read below row {row}: {error}.") from error
    except DAMAGED as error:
        raise DataError(f"{key}={path} cannot be read below row {row}: {error or type(error).__name__}.") from error


def not_this_encoding(path: Path, encoding: str, row: int, error: UnicodeDecodeError, key: str) -> DataError:
    """The error for bytes that are no text in this encoding."""
    return DataError(
        f"{key}={path} is not {encoding} text below row {row}: {error.reason}; give target.encoding=, such as utf-8, utf-16 or "
        "cp1252, or null to find it."
    )


def _lines(file: IO[str], path: Path, key: str) -> Iterator[str]:
    """Lines of bounded length. Excel's own first line ``sep=;`` is no row."""
    first = True
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise DataError(
                f"{key}={path} has a line of more than {LONGEST_LINE:,} characters; it is no table of text."
            )
        if not (first and line.strip().lower().startswith("sep=") and len(line.strip()) <= 5):
            yield line
        first = False


def plain_lines(path: Path, encoding: str, key: str) -> Iterable[str]:
    """Lines without their ends, for formats of one line a record."""
    try:
        with open_text(path, encoding) as file:
            for line in _lines(file, path, key):
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{key}={path} is not {encoding} text; give target.encoding=.") from error
    except DAMAGED as error:
        raise DataError(f"{key}={path} cannot be read: {error or type(error).__name__}.") from error


def readable(delimiter: str) -> str:
    """A delimiter by its name."""
    return {"\t": "tabs", ";": "semicolons", "|": "'|'", ",": "commas", " ": "spaces"}.get(delimiter, f"'{delimiter}'")
