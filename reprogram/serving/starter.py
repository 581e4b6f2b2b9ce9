"""The process that engines are forked from: it has imported everything that they need, has loaded nothing, and runs no threads.

A fork takes milliseconds and shares the memory of what was imported; a new process takes seconds of imports. The engine that was
forked first tells which modules loading its programs took, so that the next one finds them imported.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from reprogram import machine

PARTS = ("batching", "engine", "metrics", "program", "runtime")  # of this package, with all that they import


def main(folder: str, socket: str, told: str, spare: str) -> None:
    """``python -m reprogram.serving FOLDER SOCKET PIPE yes|no``, as the front starts it. An engine is started for each line that
    comes; ``started PID`` and ``ended CODE`` go to the file descriptor ``told``. spare: no: this process becomes the engine."""
    for part in PARTS:
        importlib.import_module(f"reprogram.serving.{part}")
    with os.fdopen(int(told), "w", buffering=1) as front:
        while sys.stdin.readline():
            if spare == "no" or not machine.FORKS:
                front.write(f"started {os.getpid()}\n")
                run_engine(folder, socket, lambda: None)
                return
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to every process; the engine ends in order
            front.write(f"ended {_forked(folder, socket, front)}\n")


def _forked(folder: str, socket: str, front: TextIO) -> int:
    """Exit code of an engine that was forked, when it has ended."""
    gc.freeze()  # pages that no collection writes to stay shared
    ours, its = os.pipe()
    process = machine.fork()
    if process == 0:
        code = 1
        try:
            leave_with_the_parent()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.close(ours)
            run_engine(folder, socket, lambda: _tell(its, sys.modules))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    front.write(f"started {process}\n")
    os.close(its)
    with os.fdopen(ours) as names:  # until the programs are loaded, or the engine has ended
        import_others(names.read().split())
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _tell(pipe: int, names: Iterable[str]) -> None:
    with os.fdopen(pipe, "w") as file:
        file.write("\n".join(names))


def import_others(names: Iterable[str]) -> None:
    """Modules that are not imported yet; one that cannot be is left to the engine."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def run_engine(folder: str, socket: str, loaded: Callable[[], None]) -> None:
    """Load the programs and serve until a signal comes. loaded: called once when they are ready."""
    import asyncio

    from reprogram.malloc_tuning import keep_freed_memory
    from reprogram.serving.engine import serve

    keep_freed_memory()
    asyncio.run(serve(Path(folder), socket, loaded))


def leave_with_the_parent() -> None:
    """In a new process: it ends when its parent is killed, instead of keeping its memory and ports (Linux)."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
