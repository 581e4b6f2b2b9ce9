"""What the operating system says of this machine and process, wherever it says it: Linux, macOS and Windows."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process at once by either
FORKS = hasattr(os, "fork")


def fork() -> int:
    """As ``os.fork``, where :data:`FORKS`; OSError elsewhere."""
    if hasattr(os, "fork"):
        return os.fork()
    raise OSError("this system has no fork")


def processors() -> int:
    """Processors that this process may use, at least one."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone; a container often grants fewer than there are
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB; NaN where neither the system nor psutil tells."""
    own = _linux_peak()
    if own is not None:
        return own
    try:
        import resource
    except ImportError:  # Windows
        return _psutil_peak()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10  # bytes there, KiB elsewhere


def _linux_peak() -> float | None:
    """As the kernel counts it for this program alone: ``ru_maxrss`` begins with the peak of the process that started it."""
    if sys.platform != "linux":
        return None
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # a container without /proc
        return None
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:")), None)


def _psutil_peak() -> float:
    try:
        import psutil
    except ImportError:
        return float("nan")
    memory = psutil.Process().memory_info()
    return float(getattr(memory, "peak_wset", memory.rss)) / 2**20


def reserve(handle: int, size: int) -> None:
    """Room of ``size`` bytes for an open file, really taken. Raises OSError where the disk has none."""
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        allocate(handle, 0, size)
        return
    piece = bytes(1 << 16)  # macOS and Windows: written, because a hole would reserve nothing
    for start in range(0, size, len(piece)):
        os.write(handle, piece[: min(len(piece), size - start)])
    os.fsync(handle)


def lock(handle: int) -> None:
    """Take an open file for this process alone, until it is closed. Raises BlockingIOError where another one holds it."""
    try:
        import fcntl
    except ImportError:
        _lock_on_windows(handle)
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_on_windows(handle: int) -> None:
    try:
        import msvcrt
    except ImportError:  # no system that we know; nobody can be kept out
        return
    place = os.lseek(handle, 0, os.SEEK_CUR)
    os.lseek(handle, 1 << 30, os.SEEK_SET)  # Windows locks bytes, and readers must still reach those that are there
    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        raise BlockingIOError(*error.args) from error
    finally:
        os.lseek(handle, place, os.SEEK_SET)
