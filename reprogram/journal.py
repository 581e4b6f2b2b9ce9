"""An append-only file of JSON lines that survives a kill and a full disk, held by one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from reprogram import machine
from reprogram.errors import ConfigError, DataError
from reprogram.result import finite

_READ_AND_WRITE = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)  # Windows would write \r\n for \n
BALLAST = 4 << 20  # bytes kept in reserve, given back when the disk is full so that paid answers still fit


class Journal:
    """Lines are flushed to disk before :meth:`append` returns; a torn last line is cut off when the file is opened.

    sent_file: also keep ``PATH.sent``, the number of calls that were sent, so that a process that dies between sending
        and journalling does not forget them.
    """

    def __init__(self, path: Path, sent_file: bool = False) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, _READ_AND_WRITE | os.O_APPEND, 0o644)
        self._sent = os.open(f"{path}.sent", _READ_AND_WRITE, 0o644) if sent_file else None
        self._ballast = path.with_name(f".{path.name}.ballast")
        self.close = weakref.finalize(self, _release, [self._file, self._sent], self._ballast)
        try:
            machine.lock(self._file)
        except BlockingIOError:
            self.close()
            raise ConfigError(f"{path} is in use by another run; give this one its own run_dir.") from None

    def read(self) -> list[dict[str, Any]]:
        """All complete lines. A last line without its end (the process died while writing it) is removed."""
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            os.ftruncate(self._file, len(whole))
        rows = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError
            except ValueError:
                raise DataError(f"{self.path}, line {number} is not a JSON object: {line[:40]!r}.") from None
            rows.append(row)
        return rows

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """All rows or none: what a failed write left behind is taken back before the error is passed on."""
        text = "".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows).encode()
        size = os.fstat(self._file).st_size
        try:
            _write_all(self._file, text)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise

    def sent(self) -> int:
        """Calls that earlier processes sent, answered or not; 0 without a sent file."""
        if self._sent is None:
            return 0
        os.lseek(self._sent, 0, os.SEEK_SET)
        return int(os.read(self._sent, 32).strip() or 0)

    def mark_sent(self, calls: int) -> None:
        if self._sent is not None:
            os.lseek(self._sent, 0, os.SEEK_SET)
            _write_all(self._sent, f"{calls:<31d}\n".encode())
            os.fsync(self._sent)

    def hold_ballast(self) -> None:
        """Reserve room before anything is paid for; raises ``OSError`` when there is none."""
        if self._ballast.exists():
            return
        handle = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            machine.reserve(handle, BALLAST)
        except OSError:
            self.drop_ballast()
            raise
        finally:
            os.close(handle)

    def drop_ballast(self) -> None:
        self._ballast.unlink(missing_ok=True)


class Rows(Protocol):
    """What a line of the journal says about an item, and how key and answer are read back from it."""

    def write(self, item: Any, key: str, answer: Any) -> dict[str, Any]: ...

    def read(self, row: Mapping[str, Any]) -> tuple[str, Any]: ...


@dataclass(frozen=True)
class NamedRows:
    """``{"call": 7, KEY: key, ANSWER: answer}``; a mapping as answer is spread over the line and read back as one.

    ``NamedRows("smiles", "score")`` is the journal of a design run; numbers, strings, lists and arrays can be answers.
    """

    key: str = "key"
    answer: str = "answer"

    def write(self, item: Any, key: str, answer: Any) -> dict[str, Any]:
        if isinstance(answer, Mapping):
            return {self.key: key, **answer}
        return {self.key: key, self.answer: answer}

    def read(self, row: Mapping[str, Any]) -> tuple[str, Any]:
        rest = {name: value for name, value in row.items() if name not in ("call", "kind", "error", self.key)}
        answer = rest[self.answer] if set(rest) == {self.answer} else rest
        return str(row[self.key]), np.asarray(answer) if isinstance(answer, list) else answer


def _write_all(handle: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(handle, view) :]


def _release(handles: list[int | None], ballast: Path) -> None:
    for handle in handles:
        if handle is not None:
            os.close(handle)
    ballast.unlink(missing_ok=True)
