"""Progress that people see: a rich bar on a terminal, plain lines otherwise, nothing for work under two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")
PLAIN_SECONDS = 5.0  # between two plain lines
console = Console(stderr=True, highlight=False)
_open: list[Bar] = []  # from the outermost in


class Bar:
    """One piece of work with a known number of steps; ``advance`` may change the text behind it.

    A bar that opens while another one is open stays silent: two of them cannot share a line.
    """

    def __init__(self, description: str, total: int | None) -> None:
        self.description, self.total, self.done, self.note = description, total, 0, ""
        self._start = self._last = time.monotonic()
        self._rich: Progress | None = None

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Move the bar by ``steps``; ``note`` replaces the text behind it."""
        self.done += steps
        self.note = self.note if note is None else note
        now = time.monotonic()
        if now - self._start < 2.0 or _open[:1] not in ([], [self]):
            return
        if console.is_terminal:
            self._draw()
        elif now - self._last >= PLAIN_SECONDS:
            self._last = now
            of = "" if self.total is None else f"/{self.total}"
            print(f"{self.description}: {self.done}{of} {self.note}".rstrip(), file=sys.stderr, flush=True)

    def _draw(self) -> None:
        if self._rich is None:
            self._rich = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=True,
            )
            self._rich.start()
            self._task = self._rich.add_task(self.description, total=self.total, note="")
        self._rich.update(self._task, completed=self.done, note=self.note)

    def close(self) -> None:
        if self._rich is not None:
            self._rich.stop()


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Bar]:
    """``with progress("training", 20) as bar: … bar.advance(note="loss 0.3")``."""
    bar = Bar(description, total)
    _open.append(bar)
    try:
        yield bar
    finally:
        _open.remove(bar)
        bar.close()


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a progress bar."""
    size = total if total is not None else (len(items) if isinstance(items, Sized) else None)
    with progress(description, size) as bar:
        for item in items:
            yield item
            bar.advance()
