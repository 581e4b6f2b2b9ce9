"""Inputs without labels, as a stream: what ``task=predict`` reads. Every row keeps its place, also one that cannot be read.

The same ``target=`` choices open them: ``open_inputs(config.target)`` reads what ``target=csv target.path=NEW.csv`` names,
and ignores label columns. Nothing is merged, split or left out, and the memory does not grow with the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.interfaces import TargetInfo
from reprogram.targets.folders import HIDDEN
from reprogram.targets.image_formats import readable_suffixes
from reprogram.targets.images import READERS, Shape, White, read_facts, read_image, white_of
from reprogram.targets.tables import TableOptions, TableRow, TableRows, rows
from reprogram.targets.tables.formats import format_of, text_formats
from reprogram.targets.tables.table import looks_like_an_id

if TYPE_CHECKING:
    from reprogram.targets.strings import StringReader


AHEAD = 64  # pictures that are read before they are asked for


class Input(NamedTuple):
    """One input. row: as the user's file numbers it, or the file below the folder. content: a string in the domain's one
    spelling, or pixels uint8 [C, H, W]; None where ``problem`` says why it cannot be read. columns: the user's own."""

    row: Any
    content: Any
    problem: str
    columns: dict[str, str]


class Inputs(Protocol):
    """Can be iterated any number of times, in the same order. columns: names of the user's own columns. root: what the
    names of ``files`` are below. a_file_each: every input is a file of its own."""

    columns: list[str]
    a_file_each: ClassVar[bool]

    @property
    def root(self) -> Path: ...

    def files(self) -> Iterator[Path]: ...

    def suit(self, target: TargetInfo) -> None: ...

    @property
    def kind(self) -> str: ...

    @property
    def notes(self) -> list[str]: ...

    def __iter__(self) -> Iterator[Input]: ...


@dataclass
class StringInputs:
    """TableRows of a table. kind: of :class:`reprogram.interfaces.TargetInfo`. columns: all of the file's, the id first."""

    reader: StringReader
    rows: TableRows
    input_column: str
    columns: list[str]
    a_file_each: ClassVar[bool] = False

    @property
    def root(self) -> Path:
        """The table."""
        return self.rows.path

    def files(self) -> Iterator[Path]:
        """The table alone."""
        yield self.rows.path

    def suit(self, target: TargetInfo) -> None:
        """Strings suit every program of strings."""

    @classmethod
    def of(
        cls, reader: StringReader, path: str, input_column: str, options: TableOptions, option: str = "target.path"
    ) -> StringInputs:
        """Raises DataError where the file or the column is not there. option: what names the file."""
        found = rows(path, options, [input_column], option)
        for key, name in (("input_column", input_column), ("id_column", options.id_column)):
            if name is not None and name not in found.header:
                raise DataError(f"target.{key}={name}: {found.path} has no such column; {nearest(name, found.header)}.")
        own = options.id_column or next((n for n in found.header if n != input_column and looks_like_an_id(n)), None)
        return cls(reader, found, input_column, sorted(found.header, key=lambda name: name != own))

    @property
    def kind(self) -> str:
        """``text``, ``sequence`` or another kind of strings."""
        return self.reader.kind

    @property
    def notes(self) -> list[str]:
        """What was found about the table, one sentence each."""
        return self.rows.notes

    def __iter__(self) -> Iterator[Input]:
        for row in self.rows:
            yield self._read(row)

    def _read(self, row: TableRow) -> Input:
        cells = {name: row.cells[name] for name in self.columns}
        if row.problem:
            return Input(row.number, None, _of_one(row.problem), cells)
        reading = self.reader.read(cells[self.input_column])
        if "\n" in cells[self.input_column]:  # a mol block
            cells[self.input_column] = reading.text
        return Input(row.number, None if reading.problem else reading.text, _of_one(reading.problem), cells)


def _of_one(problem: str) -> str:
    """Problems are told of rows (``have an empty string``); this is the one of a row."""
    return re.sub(r"^have\b", "has", problem)


@dataclass
class ImageInputs:
    """Pictures below a folder, flat or nested, or one file; the rows are their paths below it, in order.

    shape: what they become; the path itself is the content while it is None. white: as ``target.white``, None: found by
    looking at all files first.
    """

    root: Path
    white: float | None = None
    shape: Shape | None = None
    kind: str = "image"
    columns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    a_file_each: ClassVar[bool] = True
    _found: White | None = field(default=None, init=False, repr=False)

    def suit(self, target: TargetInfo) -> None:
        """Pictures become what the program was made for."""
        if target.input_shape is not None:
            self.shape = Shape(*target.input_shape)
        if self.white is None and target.white is not None:
            self.white = target.white
            self.notes.append(f"In files of more than 8 bits {self.white:g} is white, as the program learned (target.white=).")

    def __post_init__(self) -> None:
        if not self.root.exists():
            raise DataError(f"target.root={self.root} does not exist.")
        if next(self.files(), None) is None:
            raise DataError(f"target.root={self.root} holds no pictures, such as {readable_suffixes()[0]}.")

    def files(self) -> Iterator[Path]:
        """In the order of their paths, one folder at a time."""
        if self.root.is_file():
            yield self.root
            return
        folders, endings = [self.root], readable_suffixes()
        while folders:
            here = folders.pop()
            inside = sorted(p for p in here.iterdir() if not p.name.startswith(HIDDEN))
            yield from (p for p in inside if p.is_file() and p.name.lower().endswith(endings))
            followed = here == self.root  # as class folders are; links further below may lead round in circles
            folders += reversed([p for p in inside if p.is_dir() and (followed or not p.is_symlink())])

    def _white(self) -> White:
        if self.white is not None:
            return White(self.white, self.white)
        if self._found is not None:
            return self._found
        facts = []
        for file in self.files():
            with suppress(DataError):
                found = read_facts(file)
                facts += [found] if found.peak is not None else []
        self._found = white_of(facts)
        return self._found

    def __iter__(self) -> Iterator[Input]:
        white = self._white() if self.shape is not None else None
        stream = self.files()
        with ThreadPoolExecutor(READERS) as pool:
            while files := list(islice(stream, AHEAD)):
                yield from pool.map(lambda file: self._read(file, white), files)

    def _read(self, file: Path, white: White | None) -> Input:
        row = file.name if file == self.root else file.relative_to(self.root).as_posix()
        if self.shape is None:
            return Input(row, file, "", {})
        try:
            return Input(row, read_image(file, self.shape, white), "", {})
        except DataError as error:
            return Input(row, None, str(error), {})


def open_inputs(target: Mapping[str, Any]) -> Any:
    """The inputs that a composed ``target`` configuration names. Raises ConfigError where it has none without labels."""
    from hydra.utils import get_object

    function = get_object(str(target["_target_"]))
    if not hasattr(function, "inputs"):
        raise ConfigError(
            f"target={str(target['_target_']).rpartition('.')[2]} has no inputs without labels; use target=csv, image_folder or "
            "the like."
        )
    ignored = ("_target_", "label_column")
    given = {k: v for k, v in target.items() if k not in ignored}
    if given.get("input_column") == "???" and (column := own_column(str(given.get("path")))):
        given["input_column"] = column
    for key, value in given.items():
        if value == "???":
            raise ConfigError(f"target.{key} must be given, as in target.{key}=VALUE.")
    return function.inputs(**given)


def own_column(path: str) -> str | None:
    """The column of the inputs in a file whose format names it, such as .fasta."""
    kind = format_of(Path(path))
    return None if kind is None else text_formats()[kind].column


def chunks(inputs: Inputs, size: int, skip: int = 0) -> Iterator[list[Input]]:
    """Lists of ``size`` inputs, the last one shorter, after the first ``skip``: how a run goes on where it stopped."""
    stream = islice(inputs, skip, None)
    while chunk := list(islice(stream, size)):
        yield chunk
