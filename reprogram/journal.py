"""An append-only file of JSON lines that survives a kill and a full disk, held by one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprogram import machine
from reprogram.errors import ConfigError, DataError
from reprogram.locks import open_own, try_lock
from reprogram.redact import redact
from reprogram.result import finite

BALLAST = 4 << 20  # bytes kept in reserve, given back when the disk is full so that paid answers still fit


class Ballast:
    """Room beside a file that paid answers are written to: held before anything is paid for, given back when full."""

    def __init__(self, file: Path) -> None:
        self.path = file.with_name(f".{file.name}.ballast")

    def hold(self) -> None:
        """Raises ``OSError`` when there is no room."""
        if self.path.exists():
            return
        handle = open_own(self.path, os.O_WRONLY)
        try:
            machine.reserve(handle, BALLAST)
        except OSError:
            self.drop()
            raise
        finally:
            os.close(handle)

    def drop(self) -> None:
        """Give the reserved space back."""
        self.path.unlink(missing_ok=True)


class Journal:
    """Lines are flushed to disk before :meth:`append` returns; a torn last line is cut off when the file is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open_own(path, os.O_RDWR | os.O_APPEND)
        self.ballast = Ballast(path)
        self.close = weakref.finalize(self, _release, self._file, self.ballast)
        if not try_lock(self._file):
            self.close()
            raise ConfigError(f"{path} is in use by another run; give this one its own run_dir.")

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
            except (ValueError, RecursionError):
                raise DataError(f"{self.path}, line {number} is not a JSON object: {line[:40]!r}.") from None
            rows.append(row)
        return rows

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """All rows or none: what a failed write left behind is taken back before the error is passed on."""
        text = redact("".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows)).encode()
        size = os.fstat(self._file).st_size
        try:
            _write_all(self._file, text)
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)
            raise


def _write_all(handle: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(handle, view) :]


def _release(handle: int, ballast: Ballast) -> None:
    os.close(handle)
    ballast.drop()
