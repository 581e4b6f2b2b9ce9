"""Read files that may come from a stranger: regular files only, never more bytes than the reader says, never a wait.

A folder from elsewhere may hold a link to an endless device, a named pipe that nobody writes to, a socket, or a file that
grows while it is read. The file is therefore looked at after it was opened, not before, and the bytes are counted.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from reprogram.errors import ArtifactError, ReprogramError

_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_PIECE = 1 << 20
MOST_FILES = 10_000  # of one folder
TEXTS = (".json", ".txt", ".jinja", ".yaml", ".yml")
LARGEST_TEXT = 128 << 20  # bytes; the largest tokenizer.json of a published model has 33 MB


def read_bytes(path: str | Path, limit: int, error: type[ReprogramError] = ArtifactError) -> bytes:
    """All bytes of a regular file of at most ``limit`` bytes; ``error`` in one sentence for anything else."""
    try:
        handle = _open_regular(path, error)
        with os.fdopen(handle, "rb") as file:
            size = os.fstat(handle).st_size
            if size > limit:
                raise error(f"{path} has {size:,} bytes; at most {limit:,} are read.")
            data = bytearray()
            while piece := file.read(min(_PIECE, limit + 1 - len(data))):
                data += piece
                if len(data) > limit:  # it grew, or its size is not known, as below /proc
                    raise error(f"{path} has more than {limit:,} bytes; at most {limit:,} are read.")
            return bytes(data)
    except (OSError, ValueError) as problem:  # ValueError: a null character in the name
        raise error(f"{path!s} cannot be read: {getattr(problem, 'strerror', None) or problem}.") from problem


def read_text(path: str | Path, limit: int, error: type[ReprogramError] = ArtifactError) -> str:
    """The same, as UTF-8 (with or without a byte order mark) and with ``\\n`` at the end of every line."""
    data = read_bytes(path, limit, error)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not UTF-8 text: byte {problem.start} is {data[problem.start]:#04x}.") from problem


def read_json(path: str | Path, limit: int, error: type[ReprogramError] = ArtifactError) -> Any:
    """The same, as JSON without NaN and infinities."""
    data = read_bytes(path, limit, error)
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        text = " ".join(str(problem).split())
        raise error(f"{path} is not valid JSON: {text[:200].rstrip('.')}.") from problem


def check_regular(path: str | Path, error: type[ReprogramError] = ArtifactError, limit: int | None = None) -> Path:
    """The path again where a regular file (of at most ``limit`` bytes) lies there, for libraries that open it themselves."""
    try:
        handle = _open_regular(path, error)
        try:
            size = os.fstat(handle).st_size
        finally:
            os.close(handle)
    except (OSError, ValueError) as problem:
        raise error(f"{path!s} cannot be read: {getattr(problem, 'strerror', None) or problem}.") from problem
    if limit is not None and size > limit:
        raise error(f"{path} has {size:,} bytes; at most {limit:,} are read.")
    return Path(path)


def check_folder(folder: str | Path, error: type[ReprogramError] = ArtifactError) -> None:
    """Refuse a folder with special files, or with text files beyond all measure, before a library opens what is in it.

    For libraries that choose themselves which files they read; a link that leads nowhere is as good as no file.
    """
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number >= MOST_FILES:
                    raise error(f"{folder} has more than {MOST_FILES:,} files.")
                try:
                    found = os.stat(entry.path)
                except OSError:
                    continue
                if not stat.S_ISDIR(found.st_mode):
                    _refuse_special(found.st_mode, entry.path, error)
                    if Path(entry.name).suffix in TEXTS and found.st_size > LARGEST_TEXT:
                        raise error(f"{entry.path} has {found.st_size:,} bytes; at most {LARGEST_TEXT:,} are read.")
    except OSError as problem:
        raise error(f"{folder} cannot be read: {problem.strerror or problem}.") from problem


def _open_regular(path: str | Path, error: type[ReprogramError]) -> int:
    """A handle of a file that is known to be a regular one: neither opening nor reading it can wait or never end."""
    _refuse_special(os.stat(path).st_mode, path, error)  # opening a device can already do something
    handle = os.open(path, _FLAGS)
    try:
        _refuse_special(os.fstat(handle).st_mode, path, error)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _refuse_special(mode: int, path: str | Path, error: type[ReprogramError]) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_one, name in _KINDS if is_one(mode)), "no regular file")
        raise error(f"{path} is {kind}; a file is needed.")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
