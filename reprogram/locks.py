"""Files that belong to a run: one process at a time, and never a link that leads out of the folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reprogram import machine
from reprogram.errors import ConfigError, DataError

NAME = ".lock"
SUPPORTED = os.name != "nt"


def own_file(path: Path) -> bool:
    """Is there a plain file at ``path``? DataError where something else stands there.

    A folder can come from a stranger. A link, a second name of a file elsewhere, a pipe or a device is never opened:
    what is written or cut there would be written or cut outside the folder.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "not a plain file"
        raise DataError(f"{path} is {what}; remove it, or choose another folder.")
    if SUPPORTED and found.st_nlink > 1:
        raise DataError(f"{path} is also another file's name (a hard link); remove it, or choose another folder.")
    return True


def open_own(path: Path, flags: int) -> int:
    """``os.open`` of a file of the run, made where it is missing; raises DataError as :func:`own_file` does."""
    own_file(path)
    safe = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags | os.O_CREAT | safe, 0o644)


def try_lock(handle: int) -> bool:
    """Lock an open file for this process, until it is closed or the process dies; False where another one holds it.

    File systems that know no locks lock nothing.
    """
    try:
        machine.lock(handle)
    except BlockingIOError:
        return False
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """``folder`` belongs to this process inside; ConfigError where another one has it. A killed owner frees it."""
    handle = open_own(folder / NAME, os.O_RDWR)
    try:
        if not try_lock(handle):
            raise ConfigError(f"run_dir={folder} is in use by another run; wait for it, or choose another folder.")
        yield
    finally:
        os.close(handle)
