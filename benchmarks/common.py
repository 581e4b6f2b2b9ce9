
from __future__ import annotations

import json
import multiprocessing
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of packages (``numpy``, ``rdkit`` and those given)."""
    found = {"python": platform.python_version()}
    for package in ("numpy", "rdkit", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def machine() -> str:
    """The processor, and how many of them: as "16 x AMD EPYC 9654"."""
    from reprogram.machine import processors  # here: mutants.py must not have the package before it is mutated

    return f"{processors()} x {processor()}"


def processor() -> str:
    """The processor's name; what kind it is where the system tells no name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_page(path: Path, title: str, command: str, text: str) -> None:
    """A page in ``docs/results`` that says how it was made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {title}\n\nWritten by `{command}`; do not edit.\n\n{text.rstrip()}\n")


def append_line(path: Path, line: str) -> None:
    """One more line of a JSON-lines file in one write, so that two processes may share it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(line + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Finished cells; a line that a killed process left half written does not count."""
    cells = []
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(json.JSONDecodeError):
            cells.append(json.loads(line))
    return cells


def side_by_side(measure: Callable[[Any], Any], cells: Sequence[Any], jobs: int) -> Iterator[tuple[Any, Any]]:
    """(cell, what ``measure`` made of it) as each ends, ``jobs`` at a time, each process on a core of its own."""
    if jobs == 1:
        for cell in cells:
            yield cell, measure(cell)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as workers:
        running = {workers.submit(measure, cell): cell for cell in cells}
        for done in as_completed(running):
            yield running[done], done.result()
