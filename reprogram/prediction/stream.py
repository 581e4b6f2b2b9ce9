"""``predictions.csv`` as it grows: a chunk is on disk before it counts, so that a killed run goes on where it stopped.

Beside the growing file stands ``predictions.state.json``: how many rows and bytes of it are complete, and of which inputs and
which program. Going on cuts what came after, skips the rows and appends; the file is that of a run that was never killed.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprogram.errors import DataError
from reprogram.files import read_json
from reprogram.locks import open_own, own_file
from reprogram.prediction.answers import answers
from reprogram.result import encoded, write_atomically
from reprogram.targets.unlabelled import Input

if TYPE_CHECKING:
    from reprogram.model import ReprogrammedModel

NAME, GROWING, STATE = "predictions.csv", ".predictions.csv", ".predictions.state.json"
SHOWN = 5  # reasons that a run tells
MANY = 100  # answers that a result names, the most frequent
COUNTED = 10_000  # different answers that are counted: classes, or sets of tasks
LARGEST_STATE = 1 << 24  # bytes


@dataclass
class Counts:
    """Of the rows so far. first: the first rows without an answer, with the reason. answers: how often each class."""

    rows: int = 0
    problems: int = 0
    outside: int = 0
    known: int = 0
    first: list[list[str]] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)

    def frequent(self) -> dict[str, int]:
        """The most frequent answers, at most :data:`MANY`."""
        return dict(Counter(self.answers).most_common(MANY))

    def add(self, other: Counts) -> None:
        """Counts of further rows."""
        self.rows, self.problems = self.rows + other.rows, self.problems + other.problems
        self.outside, self.known = self.outside + other.outside, self.known + other.known
        self.first = (self.first + other.first)[:SHOWN]
        self.answers = dict(Counter(self.answers) + Counter(other.answers))


@dataclass
class Lines:
    """A chunk as it is written."""

    text: str
    counts: Counts


def header(own: Sequence[str], columns: Sequence[str]) -> list[str]:
    """``row``, the program's columns, then the user's (``file:NAME`` where the name is taken)."""
    ours = ["row", *columns]
    return [*ours, *names_beside(own, ours)]


def names_beside(own: Sequence[str], ours: Sequence[str], mark: str = "file:") -> list[str]:
    """The user's columns beside ours: ``file:NAME`` where the name is taken, once more where that one is taken too."""
    taken, found = {*ours, *own}, list[str]()
    for name in own:
        shown = f"{mark}{name}" if name in ours else name
        while shown != name and shown in taken:
            shown = f"{mark}{shown}"
        taken.add(shown)
        found.append(shown)
    return found


def answer_chunk(model: ReprogrammedModel, chunk: Sequence[Input], own: Sequence[str], confidence: float) -> Lines:
    """The lines of these inputs, in their order."""
    cells = answers(model, [i.content for i in chunk], [i.problem for i in chunk], confidence)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for place, given in enumerate(chunk):
        mine = [cell(values[place]) for values in cells.values()]
        writer.writerow([given.row, *mine, *(given.columns.get(name, "") for name in own)])
    reasons = [[str(i.row), why] for i, why in zip(chunk, cells["problem"], strict=True) if why]
    counted = Counter(v for v in cells["prediction"] if isinstance(v, str))
    flags = Counter(cells["outside"])
    counts = Counts(len(chunk), len(reasons), flags["yes"], flags["yes"] + flags["no"], reasons[:SHOWN], dict(counted))
    return Lines(text.getvalue(), counts)


def cell(value: Any) -> str:
    """As ``predictions.csv`` writes it: six digits, nothing for what is not there."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Growing:
    """The growing file of one run folder. identity: of inputs, program and options; another one cannot go on here."""

    def __init__(self, folder: Path, names: Sequence[str], identity: str, resume: bool) -> None:
        self.folder, self.identity, self.counts = folder, identity, Counts()
        self.path, self.state = folder / GROWING, folder / STATE
        kept = self._kept() if resume else None
        if kept is None and own_file(self.path):
            self.path.unlink()
        self._file = open_own(self.path, os.O_RDWR)
        if kept is None:
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow(names)
            self.append(Lines(line.getvalue(), Counts()))
            return
        self.counts = Counts(**kept["counts"])
        if os.fstat(self._file).st_size < kept["bytes"]:
            raise DataError(f"{self.path} is shorter than {self.state} says; start again without resume.")
        os.ftruncate(self._file, kept["bytes"])
        os.lseek(self._file, 0, os.SEEK_END)

    def _kept(self) -> dict[str, Any] | None:
        if not own_file(self.state) or not own_file(self.path):
            return None
        kept = read_json(self.state, LARGEST_STATE)
        right = isinstance(kept, dict) and type(kept.get("bytes")) is int and isinstance(kept.get("counts"), dict)
        if not right or kept["counts"].keys() != vars(Counts()).keys():
            raise DataError(f"{self.state} is damaged; start again without resume.")
        if kept.get("identity") != self.identity:
            raise DataError(
                f"resume=true goes on with the same inputs and program, and one of them has changed since {self.folder} "
                "was begun; choose another run_dir."
            )
        return kept

    def append(self, lines: Lines) -> None:
        """On disk, and counted, when it returns."""
        view = memoryview(encoded(lines.text))
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)
        self.counts.add(lines.counts)
        if len(self.counts.answers) > COUNTED:  # classes of a program are fewer; sets of tasks may be more
            self.counts.answers = dict(Counter(self.counts.answers).most_common(COUNTED))
        size = os.lseek(self._file, 0, os.SEEK_CUR)
        state = {"identity": self.identity, "bytes": size, "counts": vars(self.counts)}
        write_atomically(self.state, json.dumps(state))

    def finish(self) -> Path:
        """The file by its own name; nothing else is left."""
        self.close()
        done = self.folder / NAME
        os.replace(self.path, done)
        self.state.unlink(missing_ok=True)
        return done

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._file)


def write_all(growing: Growing, chunks: Iterable[Lines], tell: Any) -> None:
    """Each chunk to the file, with progress."""
    for lines in chunks:
        growing.append(lines)
        bad = growing.counts.problems
        tell.advance(lines.counts.rows, f"{bad:,} without an answer" if bad else "")
