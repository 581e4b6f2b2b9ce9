"""Answers of a model on disk: a :class:`~reprogram.ledger.Store` on diskcache that never unpickles."""

from __future__ import annotations

import errno
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import SourceError

IDENTITY = "identity"


class AnswerStore:
    """``{key: array}`` in ``folder``; several processes may share it.

    identity: what the answers belong to (service, version, …). A folder that holds another model's answers is refused.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        from diskcache import UNKNOWN, Cache, Disk
        from diskcache.core import MODE_PICKLE

        class PlainDisk(Disk):  # diskcache falls back to pickle for values it does not know; such a file is not ours
            def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
                if mode == MODE_PICKLE:
                    raise SourceError(f"The answer cache {folder} has an entry that this program never wrote.")
                return super().fetch(mode, filename, value, read)

            def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
                if not isinstance(value, bytes | str):
                    raise TypeError("answers are stored as bytes")
                return super().store(value, read, key=key)

        self.folder = folder
        self._cache = Cache(
            str(folder),
            disk=PlainDisk,
            eviction_policy="none",
            size_limit=2**60,
            sqlite_synchronous=2,  # on disk before the journal says so
        )
        ours = json.dumps(dict(identity), sort_keys=True)
        found = self._cache.get(IDENTITY)
        if found is None:
            self._cache[IDENTITY] = ours
        elif found != ours:
            changed = _difference(json.loads(found), dict(identity))
            raise SourceError(
                f"The answer cache {folder} belongs to another model ({changed}); give source.cache another folder."
            )

    def get(self, key: str) -> np.ndarray | None:
        raw = self._cache.get(key)
        return None if raw is None else np.lib.format.read_array(io.BytesIO(raw), allow_pickle=False)

    def put(self, answers: Mapping[str, Any]) -> None:
        """All in one transaction. Raises ``OSError`` (ENOSPC) when the disk is full."""
        with _full_disk_as_oserror(), self._cache.transact():
            for key, answer in answers.items():
                raw = io.BytesIO()
                np.lib.format.write_array(raw, np.asarray(answer), allow_pickle=False)
                self._cache[key] = raw.getvalue()

    def __len__(self) -> int:
        return len(self._cache) - 1

    def close(self) -> None:
        self._cache.close()


@contextmanager
def _full_disk_as_oserror() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        raise OSError(errno.ENOSPC, "No space left on device") from error


def _difference(found: dict[str, Any], ours: dict[str, Any]) -> str:
    for name in ours:
        if found.get(name) != ours[name]:
            return f"{name} {found.get(name)}, now {ours[name]}"
    return "an unknown one"
