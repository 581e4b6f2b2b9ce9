"""The answers on disk: what is kept comes back, and a stranger's folder can neither run, delete nor write anything."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprogram.errors import ConfigError, DataError, ReprogramError, SourceError
from reprogram.ledger import AnswerStore, Budget, Call
from reprogram.ledger.database import FILE

IDENTITY = {"service": "x", "version": "1"}
VECTOR = np.arange(3, dtype=np.float32)


def store(folder: Path, owner: bool = True, **more: Any) -> AnswerStore:
    return AnswerStore(folder, IDENTITY | more, 3, owner)


def kept(folder: Path) -> Path:
    """A store with one answer, closed."""
    with contextlib.closing(store(folder)) as made:
        made.keep([Call("a", None, VECTOR, "training")], [made.send("training", 1)])
    return folder / FILE


def test_answers_and_bill_come_back_as_they_were(tmp_path: Path) -> None:
    with contextlib.closing(store(tmp_path)) as made:
        calls = [Call("a", None, VECTOR, "training"), Call("b", None, None, "evaluation", "no answer")]
        made.keep(calls, [made.send("training", 1)])
        made.send("evaluation", 5)
        made.settle(made.send("training", 7), "not billed")
    again = store(tmp_path)
    np.testing.assert_array_equal(again.get("a"), VECTOR)
    assert again.get("b") is None and len(again) == 1
    assert [(c.key, c.kind, c.error) for c in again.calls()] == [("a", "training", ""), ("b", "evaluation", "no answer")]
    assert again.billed() == ({"training": 1, "evaluation": 5}, 5)


def test_a_cache_of_another_run_gives_answers_and_no_bill(tmp_path: Path) -> None:
    kept(tmp_path)
    with contextlib.closing(store(tmp_path, owner=False)) as cache:
        assert list(cache.calls()) == [] and cache.get("a") is not None
        cache.put({"c": VECTOR + 1})
    assert len(store(tmp_path)) == 2


def test_two_runs_cannot_own_one_store_but_may_read_it(tmp_path: Path) -> None:
    kept(tmp_path)
    with contextlib.closing(store(tmp_path)):
        with pytest.raises(ConfigError, match="in use by another run"):
            store(tmp_path)
        assert store(tmp_path, owner=False).get("a") is not None
    store(tmp_path).close()


def _make(folder: str) -> int:
    with contextlib.closing(store(Path(folder), owner=False)) as shared:
        shared.put({str(os.getpid()): VECTOR})
        return 1


def test_runs_that_begin_at_once_share_a_new_cache(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert sum(pool.map(_make, [str(tmp_path)] * 4, chunksize=1)) == 4
    assert 1 <= len(store(tmp_path)) <= 4


def test_another_models_answers_are_refused(tmp_path: Path) -> None:
    kept(tmp_path)
    with pytest.raises(SourceError, match=r"belongs to another model \(version 1, now 2\)"):
        store(tmp_path, version="2")


def test_answers_of_an_earlier_version_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_bytes(b"")
    with pytest.raises(SourceError, match=r"earlier version of this toolkit \(cache\.db\)"):
        store(tmp_path)


def test_full_disk_is_an_oserror_and_keeps_nothing_by_halves(tmp_path: Path) -> None:
    made = store(tmp_path)
    made._connection.execute("PRAGMA max_page_count=7")
    with pytest.raises(OSError, match="No space left"):
        made.keep([Call(str(i), None, VECTOR, "training") for i in range(500)])
    assert len(made) == 0 and list(made.calls()) == []


# A stranger's folder --------------------------------------------------------------------------------------------------

Change = Callable[[Path], None]


def sql(*statements: str, values: tuple[Any, ...] = ()) -> Change:
    def change(file: Path) -> None:
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
            for statement in statements:
                database.execute(statement, values)

    return change


def replaced(content: bytes) -> Change:
    return lambda file: file.write_bytes(content) and None


def foreign(file: Path) -> None:
    """A diskcache folder's schema, with a row that names a file elsewhere."""
    file.unlink()
    sql("CREATE TABLE Cache (key BLOB, filename TEXT, value BLOB)", "INSERT INTO Cache VALUES ('a', '/etc/x', 0)")(file)


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(4096, len(content), 97):
        content[place] ^= 0xFF
    file.write_bytes(bytes(content))


HOSTILE: dict[str, Change] = {
    "pickle": sql("UPDATE answers SET vector = ?", values=(pickle.dumps(print),)),
    "text for a vector": sql("UPDATE answers SET vector = 'abcdefghijkl'"),
    "number for a vector": sql("UPDATE answers SET vector = 7"),
    "infinite vector": sql("UPDATE answers SET vector = ?", values=(np.full(3, np.inf, "<f4").tobytes(),)),
    "huge vector": sql("UPDATE answers SET vector = zeroblob(50000000)"),
    "trigger": sql("CREATE TRIGGER t AFTER INSERT ON sends BEGIN DELETE FROM answers; END"),
    "view": sql("CREATE VIEW v AS SELECT randomblob(1000000000)"),
    "view for a table": sql("DROP TABLE answers", "CREATE VIEW answers AS SELECT 'a' AS key, zeroblob(12) AS vector"),
    "virtual table": sql("CREATE VIRTUAL TABLE f USING fts5(x)"),
    "index": sql("CREATE INDEX i ON answers (hex(vector))"),
    "table is gone": sql("DROP TABLE calls"),
    "other columns": sql("DROP TABLE sends", "CREATE TABLE sends (number INTEGER PRIMARY KEY, kind TEXT)"),
    "no identity": sql("DELETE FROM about"),
    "identity is no JSON": sql("UPDATE about SET value = '{'"),
    "identity of ten megabytes": sql("UPDATE about SET value = hex(zeroblob(5000000))"),
    "another application": sql("PRAGMA application_id=1"),
    "negative bill": sql("UPDATE sends SET items = -1000000"),
    "bill in letters": sql("UPDATE sends SET items = 'many'"),
    "unknown state": sql("UPDATE sends SET state = 'free'"),
    "unknown kind": sql("UPDATE sends SET kind = 'gift'"),
    "call without a kind": sql("UPDATE calls SET kind = 7"),
    "diskcache": foreign,
    "empty file": replaced(b""),
    "rubbish": replaced(b"rubbish" * 10_000),
    "header alone": replaced(b"SQLite format 3\0" + b"\0" * 84),
    "flipped bits": flipped,
}


def read_all(folder: Path) -> None:
    """All that a run does with its store."""
    with contextlib.closing(store(folder)) as found:
        found.billed()
        list(found.calls())
        found.get("a")
        found.keep([Call("b", None, VECTOR, "training")], [found.send("training", 1)])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_foreign_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    HOSTILE[name](kept(tmp_path))
    with pytest.raises(SourceError, match=r"damaged or no answer store .*give the run another run_dir\.$") as error:
        read_all(tmp_path)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def link(to: Path, place: Path) -> None:
    place.unlink(missing_ok=True)
    place.symlink_to(to)


def hard_link(to: Path, place: Path) -> None:
    place.unlink(missing_ok=True)
    os.link(to, place)


def pipe(to: Path, place: Path) -> None:
    place.unlink(missing_ok=True)
    os.mkfifo(place)


ENDINGS = ("", "-wal", "-shm", "-journal")


@pytest.mark.skipif(os.name == "nt", reason="no such files there")
@pytest.mark.parametrize("way", [link, hard_link, pipe])
@pytest.mark.parametrize("ending", [*ENDINGS, "lock", "ballast"])
def test_nothing_outside_the_folder_is_touched(way: Callable[[Path, Path], None], ending: str, tmp_path: Path) -> None:
    outside = tmp_path / "thesis.tex"
    outside.write_bytes(b"years of work\nand half a line")
    file = kept(tmp_path / "answers")
    place = {"lock": file.with_name(f".{FILE}.run"), "ballast": file.with_name(f".{FILE}.ballast")}.get(
        ending, file.with_name(file.name + ending)
    )
    way(outside, place)
    with contextlib.suppress(ReprogramError):
        found = store(tmp_path / "answers")
        assert found.ballast is not None
        found.ballast.hold()
        found.keep([Call("b", None, VECTOR, "training")], [found.send("training", 1)])
        found.close()
    assert outside.read_bytes() == b"years of work\nand half a line"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answers", "thesis.tex"]


def super_journal(name: bytes) -> bytes:
    """The end of a rollback journal that names a super-journal, which SQLite deletes once it is rolled back."""
    magic = bytes([0xD9, 0xD5, 0x05, 0xF9, 0x20, 0xA1, 0x63, 0xD7])
    header = magic + (0).to_bytes(4, "big") + b"\0" * 4 + (1).to_bytes(4, "big") + (512).to_bytes(4, "big")
    header += (4096).to_bytes(4, "big")
    tail = (0).to_bytes(4, "big") + name + len(name).to_bytes(4, "big") + (sum(name)).to_bytes(4, "big") + magic
    return header.ljust(512, b"\0") + tail


def test_trap_a_rollback_journal_that_names_a_file_to_delete(tmp_path: Path) -> None:
    """SQLite itself does delete it; this store does not open such a folder."""
    for safe in (False, True):
        outside = tmp_path / "thesis.tex"
        outside.write_bytes(b"years of work")
        file = kept(tmp_path / f"answers{safe}")
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA journal_mode=DELETE")
        file.with_name(file.name + "-journal").write_bytes(super_journal(str(outside).encode()))
        if safe:
            with pytest.raises(SourceError, match="never written by this toolkit"):
                store(tmp_path / f"answers{safe}")
            assert outside.read_bytes() == b"years of work"
        else:
            with contextlib.closing(sqlite3.connect(file)) as database, contextlib.suppress(sqlite3.DatabaseError):
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            assert not outside.exists(), "this is what the test is about"


def test_random_damage_ends_in_a_sentence_or_is_harmless(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = kept(tmp_path / "whole").read_bytes()
    for number in range(150):
        content = bytearray(whole)
        if number % 3 == 0:
            content = content[: rng.integers(len(content))]
        for place in rng.integers(0, max(1, len(content)), 1 + number % 40):
            if content:
                content[place] = rng.integers(256)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / FILE).write_bytes(bytes(content))
        with contextlib.suppress(ReprogramError, OSError):
            read_all(folder)
        assert {p.name for p in folder.iterdir()} <= {FILE, f"{FILE}-wal", f"{FILE}-shm", f".{FILE}.run"}


def test_journal_of_a_design_run_that_is_a_link_is_not_cut(tmp_path: Path) -> None:
    """A torn last line is cut off a journal, never off somebody's thesis."""
    from reprogram.journal import Journal

    outside = tmp_path / "thesis.tex"
    outside.write_text("years of work\nand half a line")
    for way in (link, hard_link):
        way(outside, tmp_path / "calls.jsonl")
        with pytest.raises(DataError, match=r"calls\.jsonl is (a link|also another)"):
            Journal(tmp_path / "calls.jsonl").read()
    assert outside.read_text() == "years of work\nand half a line"


def test_price_without_a_price_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"budget\.price=5 limits nothing .*budget\.price_per_query"):
        Budget(price=5)
