"""macOS and Windows lack what Linux has: the functions and modules are taken away, and everything still runs."""

from __future__ import annotations

import ast
import builtins
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from reprogram import machine
from reprogram.errors import ConfigError
from reprogram.journal import BALLAST, Journal

MODULES = {"fcntl", "resource", "termios", "pwd", "grp", "pty", "tty", "syslog", "posix"}
FUNCTIONS = {
    *("fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "getpgid", "setsid", "setpgid", "killpg", "nice"),
    *("posix_fallocate", "posix_fadvise", "posix_spawn", "sched_getaffinity", "sched_setaffinity", "pread", "pwrite"),
    *("preadv", "pwritev", "fchmod", "fchown", "chown", "lchown", "mkfifo", "mknod", "uname", "statvfs", "getloadavg"),
    *("wait", "wait3", "wait4", "waitid", "sendfile", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW"),
    *("SIGALRM", "SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "setitimer", "alarm", "pause"),
}
ROOT = Path(machine.__file__).parents[1]
FILES = sorted(path for package in ("reprogram", "molecules") for path in (ROOT / package).rglob("*.py"))


@pytest.fixture
def bare(monkeypatch):
    """A Python without what only POSIX has."""
    for name in FUNCTIONS:
        monkeypatch.delattr(os, name, raising=False)
    real = builtins.__import__

    def without(name, globals=None, *more, **options):
        ours = ((globals or {}).get("__name__") or "").startswith(("reprogram", "molecules"))
        if ours and name.partition(".")[0] in MODULES:
            raise ImportError(name)
        return real(name, globals, *more, **options)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_used_that_only_posix_has(path):
    """Only reprogram.machine may, behind a fallback; elsewhere ``hasattr`` and ``getattr`` name it as text."""
    if path == Path(machine.__file__):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {n for node in ast.walk(tree) if isinstance(node, ast.If) and "hasattr" in ast.dump(node.test)
               for n in ast.walk(node)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & MODULES, f"{path}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module not in MODULES, f"{path}:{node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "signal"):
            assert node.attr not in FUNCTIONS or node in guarded, f"{path}:{node.lineno} uses {node.attr}"


def test_a_whole_run_without_them(typed, tiny, tmp_path, bare, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    code, stderr = typed(*tiny, folder="made")
    assert code == 0, stderr
    where = [a for a in tiny if a.startswith(("target=", "target.root=", "device"))]
    code, stderr = typed("task=evaluate", "program=made/program", *where)
    assert code == 0, stderr
    assert (tmp_path / "run" / "predictions.csv").read_text() == (tmp_path / "made" / "predictions.csv").read_text()


def test_importing_everything_without_them():
    """In a process of its own, because modules are imported once."""
    code = (
        "import pkgutil, importlib, sys\n"
        f"for name in {sorted(MODULES - {'posix', 'pwd', 'grp'})}: sys.modules[name] = None\n"
        "import reprogram.cli, reprogram.journal, reprogram.ledger, reprogram.training.loop, reprogram.result\n"
        "import molecules.workers, reprogram.tasks.reprogram\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_a_journal_without_them(tmp_path, bare):
    journal = Journal(tmp_path / "calls.jsonl")
    journal.ballast.hold()
    assert (tmp_path / ".calls.jsonl.ballast").stat().st_size == BALLAST
    journal.append([{"call": 1, "value": "ü"}])
    journal.close()
    again = Journal(tmp_path / "calls.jsonl")
    assert again.read() == [{"call": 1, "value": "ü"}]
    assert b"\r" not in (tmp_path / "calls.jsonl").read_bytes()


def test_a_file_is_held_by_one_process_on_windows_too(tmp_path, bare, monkeypatch):
    held = []

    def locking(handle, mode, size):
        place = os.lseek(handle, 0, os.SEEK_CUR)
        assert place > 1 << 29 and size == 1, "Windows would keep readers from the bytes that are there"
        if held:
            raise PermissionError(13, "Permission denied")
        held.append(handle)

    windows = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    first = Journal(tmp_path / "calls.jsonl")
    with pytest.raises(ConfigError, match="in use by another run"):
        Journal(tmp_path / "calls.jsonl")
    first.append([{"call": 1}])
    assert first.read() == [{"call": 1}]


def test_memory_and_processors(bare, monkeypatch):
    monkeypatch.setattr(machine, "_linux_peak", lambda: None)
    assert machine.processors() == os.cpu_count()
    assert 10 < machine.peak_memory_mb() < 100_000
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert math.isnan(machine.peak_memory_mb())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_macos_counts_bytes_where_linux_counts_kilobytes(monkeypatch):
    import resource

    linux = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.peak_memory_mb() == pytest.approx(linux / 2**10, rel=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process begins with its own peak")
def test_the_peak_is_not_that_of_the_process_that_started_this_one():
    own = machine.peak_memory_mb()
    held = np.ones(200 << 20, np.uint8)
    code = "from reprogram import machine; print(machine.peak_memory_mb())"
    child = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert machine.peak_memory_mb() > held.nbytes / 2**20 and machine.peak_memory_mb() >= own
    assert child < 100


def test_a_reserve_that_the_disk_refuses(tmp_path, bare, monkeypatch):
    def full(handle, piece):
        raise OSError(28, "No space left on device")

    journal = Journal(tmp_path / "calls.jsonl")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        journal.ballast.hold()
    assert not (tmp_path / ".calls.jsonl.ballast").exists()
