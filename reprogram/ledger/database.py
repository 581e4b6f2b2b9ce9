"""Answers of a black-box (query-only) model, with what was paid for them: one SQLite file.

The file can come from a stranger (a run folder, a shared cache), so it is data and nothing else. Values are plain
float32 vectors, never pickled; a file whose tables, triggers or views are not exactly ours is refused before anything
in it is used; every value is checked when it is read. Two habits of SQLite lead out of the folder and are shut off
here: a rollback journal can name a file anywhere that SQLite then deletes (this store writes a WAL, and refuses to open
a file that has a rollback journal beside it), and links are followed (refused).
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, SourceError
from reprogram.journal import Ballast
from reprogram.ledger.book import ANSWERED, NOT_BILLED, SENT, Book, Call
from reprogram.ledger.budget import EVALUATION, TRAINING
from reprogram.locks import open_own, own_file, try_lock

FILE = "answers.db"
APPLICATION = 0x52505247  # "RPRG", in the file's header
TABLES = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE answers (key TEXT PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE calls (key TEXT PRIMARY KEY, number INTEGER NOT NULL, kind TEXT NOT NULL, error TEXT NOT NULL) "
    "WITHOUT ROWID",
    "CREATE TABLE sends (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, items INTEGER NOT NULL, state TEXT NOT NULL)",
)
SMALL = 1 << 16  # bytes of the longest text or description in the file
LONGEST_REASON = 1000  # letters of a failure that are kept
MOST = 10**9  # items that a bill can count
PATIENCE = 30.0  # seconds to wait for another process's write
CHECK_SECONDS = 20.0  # that a look at every page may take; each value is checked again when it is read


class AnswerStore(Book):
    """``{key: float32 vector}`` in ``folder``, and the bill of the run that owns it.

    identity: what the answers belong to (service, version, …). A file that holds another model's answers is refused.
    width: values of an answer.
    owner: this run writes its calls and its bill here, and no other process may at the same time. Without it the file
        is a cache: answers alone are read and written, and several processes may share it.

    Raises SourceError for a file that is damaged, foreign, or another model's; DataError for a link or a pipe.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], width: int, owner: bool = False) -> None:
        super().__init__()
        self.folder, self.width, self.owner = folder, width, owner
        self.path = folder / FILE
        self.name = str(self.path)
        self.ballast = Ballast(self.path) if owner else None
        self._lock: int | None = None
        self._prepare(identity)
        self._connection = _connect(self.path, max(4 * width, SMALL))
        try:
            with self._understood():
                _check(self._connection)
                self._compare(dict(identity))
        except BaseException:
            self.close()
            raise

    def _prepare(self, identity: Mapping[str, Any]) -> None:
        """The folder, the owner's lock, and an empty file where there is none."""
        if self.folder.is_symlink() and self.owner:
            raise SourceError(f"{self.folder} is a link; remove it, or give the run another run_dir.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.folder} cannot be made: {error.strerror}; it must be a folder.") from error
        if (self.folder / "cache.db").exists() and not own_file(self.path):
            raise SourceError(
                f"{self.folder} holds answers of an earlier version of this toolkit (cache.db), which is not read any "
                f"more; {self._remedy()}."
            )
        if self.owner:
            self._lock = open_own(self.folder / f".{FILE}.run", os.O_RDWR)
            if not try_lock(self._lock):
                self.close()
                raise ConfigError(f"{self.path} is in use by another run; give this one its own run_dir.")
        _check_files(self.path)
        if not own_file(self.path):
            _create(self.path, {"identity": _text(identity)})

    def _compare(self, ours: dict[str, Any]) -> None:
        found = self._connection.execute("SELECT value FROM about WHERE name = 'identity'").fetchone()
        kept = json.loads(found[0]) if found else None
        if not isinstance(kept, dict):
            raise ValueError("no identity")
        if kept != json.loads(_text(ours)):
            changed = _difference(kept, ours)
            raise SourceError(f"The answer store {self.folder} belongs to another model ({changed}); {self._remedy()}.")

    def calls(self) -> Iterator[Call]:
        if not self.owner:
            return
        with self._understood():
            rows = self._connection.execute("SELECT key, kind, error FROM calls ORDER BY number").fetchall()
            for key, kind, error in rows:
                if not (isinstance(key, str) and isinstance(error, str) and kind in (TRAINING, EVALUATION)):
                    raise ValueError("a call")
                yield Call(key, None, None, kind, error)

    def billed(self) -> tuple[Counter[str], int]:
        paid: Counter[str] = Counter()
        unanswered = 0
        with self._understood():
            rows = self._connection.execute("SELECT kind, items, state FROM sends WHERE state != ?", (NOT_BILLED,))
            for kind, items, state in rows.fetchall():
                if kind not in (TRAINING, EVALUATION) or state not in (SENT, ANSWERED):
                    raise ValueError("a request")
                if not isinstance(items, int) or not 0 < items < MOST:
                    raise ValueError("a count")
                paid[kind] += items
                unanswered += items if state == SENT else 0
        return paid, unanswered

    def get(self, key: str) -> np.ndarray | None:
        """The kept answer to this key, or None."""
        with self._understood():
            row = self._connection.execute("SELECT vector FROM answers WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            if not isinstance(row[0], bytes) or len(row[0]) != 4 * self.width:
                raise ValueError("an answer")
            vector = np.frombuffer(row[0], "<f4").astype(np.float32)
            if not np.isfinite(vector).all():
                raise ValueError("an answer that is not finite")
            return vector

    def put(self, answers: Mapping[str, Any]) -> None:
        """All in one transaction. Raises ``OSError`` (ENOSPC) when the disk is full."""
        rows = [(key, self._bytes(answer)) for key, answer in answers.items()]
        with self._transaction() as write:
            write.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)

    def send(self, kind: str, items: int) -> int:
        with self._transaction() as write:
            row = write.execute("INSERT INTO sends (kind, items, state) VALUES (?, ?, ?)", (kind, items, SENT))
            return int(row.lastrowid or 0)

    def settle(self, send: int, state: str) -> None:
        with self._transaction() as write:
            write.execute("UPDATE sends SET state = ? WHERE number = ?", (state, send))

    def keep(self, calls: Sequence[Call], sends: Iterable[int] = ()) -> None:
        answers = [(call.key, self._bytes(call.answer)) for call in calls if not call.error]
        rows = [(call.key, call.kind, call.error[:LONGEST_REASON]) for call in calls]
        with self._transaction() as write:
            write.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", answers)
            (last,) = write.execute("SELECT coalesce(max(number), 0) FROM calls").fetchone()
            numbered = [(key, last + place, kind, error) for place, (key, kind, error) in enumerate(rows, start=1)]
            write.executemany("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?)", numbered)
            write.executemany("UPDATE sends SET state = ? WHERE number = ?", [(ANSWERED, send) for send in sends])

    def ask_again(self, keys: Iterable[str]) -> None:
        with self._transaction() as write:
            write.executemany("DELETE FROM calls WHERE key = ? AND error != ''", [(key,) for key in keys])

    def __len__(self) -> int:
        with self._understood():
            return int(self._connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        if hasattr(self, "_connection"):
            with suppress(sqlite3.Error):  # what is not merged now is merged by the next process
                self._connection.close()
        if self.ballast is not None and self._lock is not None:
            self.ballast.drop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __del__(self) -> None:
        self.close()

    def _bytes(self, answer: Any) -> bytes:
        vector = np.ascontiguousarray(answer, "<f4")
        if vector.shape != (self.width,):
            raise ValueError(f"an answer has {self.width} values, not the shape {vector.shape}")
        return vector.tobytes()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._understood():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """SQLite's errors, and values that this program never wrote, in one sentence; a full disk as ``OSError``."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL or "full" in str(error):
                raise OSError(errno.ENOSPC, "No space left on device") from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise SourceError(f"{self.path} was locked by another program for {PATIENCE:g} s.") from error
            raise SourceError(self._refusal(str(error))) from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise SourceError(self._refusal(f"{error} that this program never wrote")) from error

    def _refusal(self, why: str) -> str:
        why = " ".join(why.split())[:120]
        return f"{self.path} is damaged or no answer store of this toolkit ({why}); {self._remedy()}."

    def _remedy(self) -> str:
        return "give the run another run_dir" if self.owner else "give source.cache another folder"


def _connect(path: Path, longest: int) -> sqlite3.Connection:
    """An existing file, with nothing of SQLite's that a stranger's file could set in motion."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
    connection.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, 16)
    return connection


def _check(connection: sqlite3.Connection) -> None:
    """Is it our file, whole, with our tables and nothing else? ValueError or ``sqlite3.Error`` where it is not."""
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION,):
        raise ValueError("a header")
    found = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    if tuple(sql for (sql,) in found) != TABLES:
        raise ValueError("a table, index, trigger or view")
    if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
        raise ValueError("a kind of journal")
    until = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > until, 100_000)
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return
    finally:
        connection.set_progress_handler(None, 0)
    if verdict != ("ok",):
        raise ValueError("a page")


def _check_files(path: Path) -> None:
    """The file and what SQLite keeps beside it: plain files, and no rollback journal, which can name files to delete."""
    for ending in ("", "-wal", "-shm"):
        own_file(path.with_name(path.name + ending))
    journal = path.with_name(path.name + "-journal")
    if os.path.lexists(journal):
        raise SourceError(f"{journal} was never written by this toolkit and is not opened; remove it.")


def _create(path: Path, about: Mapping[str, str]) -> None:
    """An empty store, whole from the first moment that others see it: made beside, then renamed."""
    lock = open_own(path.with_name(f".{path.name}.new.lock"), os.O_RDWR)
    try:
        until = time.monotonic() + PATIENCE
        while not try_lock(lock) and time.monotonic() < until:
            time.sleep(0.01)
        if own_file(path):
            return
        made = path.with_name(f".{path.name}.new")
        for ending in ("", "-wal", "-shm", "-journal"):
            made.with_name(made.name + ending).unlink(missing_ok=True)
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        connection = sqlite3.connect(made, isolation_level=None)
        try:
            for statement in (f"PRAGMA application_id={APPLICATION}", "PRAGMA journal_mode=WAL", *TABLES):
                connection.execute(statement)
            connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        finally:
            connection.close()
        os.replace(made, path)
    except sqlite3.Error as error:
        raise ConfigError(f"{path} cannot be made: {error}.") from error
    finally:
        os.close(lock)


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(dict(identity), sort_keys=True)


def _difference(found: dict[str, Any], ours: dict[str, Any]) -> str:
    for name in ours:
        if found.get(name) != ours[name]:
            return f"{name} {str(found.get(name))[:80]}, now {ours[name]}"
    return "an unknown one"
