"""Molecules scored in parallel: in processes of this machine, or on a Dask cluster, through joblib."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from reprogram import cluster, machine
from reprogram.errors import ConfigError, ReprogramError, nearest
from reprogram.ranges import Checked, NotEmpty, Range, Seconds

BACKENDS = ("serial", "processes", "dask")
WORTHWHILE = 1.0  # seconds of work below which starting processes costs more than it saves
Function = Callable[[list[str]], list[Any]]


@dataclass
class Workers(Checked):
    """Maps a function of a list over chunks of a list.

    backend: ``processes`` (joblib's loky; a batch under a second is not worth it and stays here, unless the function may
        crash), ``dask``, ``serial``.
    jobs: how many processes; None for one a core.
    timeout: seconds that an item may take before it counts as failed. Its process is ended, so that an oracle that
        hangs costs one molecule. Serial work is timed by the ledger instead.
    address: of the Dask scheduler, such as ``tcp://host:8786``.
    """

    group: ClassVar[str] = "parallel."

    backend: str = "processes"
    jobs: Annotated[int, Range(1, 4096)] | None = None
    timeout: Seconds | None = None
    address: NotEmpty | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ConfigError(f"parallel.backend is '{self.backend}'; {nearest(self.backend, BACKENDS)}.")
        if self.backend == "dask" and not self.address:
            raise ConfigError("parallel.backend=dask needs parallel.address, such as tcp://host:8786.")
        self._seconds = math.inf  # the quickest an item has been
        self._client: Any = None

    @property
    def processes(self) -> int:
        """How many processes are used."""
        return self.jobs or machine.processors()

    def portion(self, batch: int = 1) -> int:
        """Items that take about two seconds, and at least a batch for each process: what is asked for at a time."""
        jobs = self._cluster() if self.backend == "dask" else 1 if self.backend == "serial" else self.processes
        return max(4 * jobs, batch * jobs, int(2 * jobs / max(self._seconds, 1e-6)))

    def __call__(self, function: Function, items: Sequence[str], batch: int = 1, isolated: bool = False) -> list[Any]:
        """One answer an item, in order; an ``Exception`` for an item that has none. ``ReprogramError`` is raised.

        batch: items that the function takes at once, for instance in one start of a program; no chunk is smaller.
        isolated: never in this process (unless ``backend`` is ``serial``), because the function may end it.
        """
        answers = self._answers(function, list(items), batch, isolated)
        for answer in answers:
            if isinstance(answer, ReprogramError):
                raise answer
        return answers

    def _answers(self, function: Function, items: list[str], batch: int, isolated: bool) -> list[Any]:
        if self.backend == "serial":
            return self._here(function, items)
        answers: list[Any] = []
        if self.backend == "processes" and self.timeout is None and not isolated:
            while items and self._seconds == math.inf:  # how long does one take?
                answers += self._here(function, items[:batch])
                items = items[batch:]
            if self.processes == 1 or self._seconds * len(items) < WORTHWHILE:
                return answers + self._here(function, items)
        return answers + (self._apart(function, items, batch) if items else [])

    def _here(self, function: Function, items: list[str]) -> list[Any]:
        began = time.perf_counter()
        answers = _tried(function, items)
        if items:
            self._seconds = min(self._seconds, (time.perf_counter() - began) / len(items))
        return answers

    def _apart(self, function: Function, items: list[str], batch: int) -> list[Any]:
        """Chunks to workers. What a dying or hanging worker left undone is tried once more, one chunk at a time."""
        jobs = self._cluster() if self.backend == "dask" else max(2, self.processes)
        size = batch if self.timeout else max(batch, math.ceil(len(items) / (4 * jobs)))
        chunks = [items[i : i + size] for i in range(0, len(items), size)]
        done: dict[int, list[Any]] = {}
        began = time.perf_counter()
        error = self._run(function, dict(enumerate(chunks)), jobs, done)
        self._seconds = min(self._seconds, (time.perf_counter() - began) * jobs / len(items))
        left = [i for i in range(len(chunks)) if i not in done]
        for i in left:
            if len(left) > 1 or not isinstance(error, TimeoutError):
                error = self._run(function, {i: chunks[i]}, jobs, done)
            if i not in done:
                done[i] = self._item_by_item(function, chunks[i], jobs, error or RuntimeError("no answer"))
        return [answer for i in range(len(chunks)) for answer in done[i]]

    def _item_by_item(self, function: Function, chunk: list[str], jobs: int, error: Exception) -> list[Any]:
        """Of a chunk that ended its process, the items that do not; one that took too long is not tried again."""
        if len(chunk) == 1 or isinstance(error, TimeoutError):
            return [error for _ in chunk]
        found: list[Any] = []
        for item in chunk:
            one: dict[int, list[Any]] = {}
            failed = self._run(function, {0: [item]}, jobs, one)
            found += one.get(0, [failed])
        return found

    def _run(
        self, function: Function, chunks: dict[int, list[str]], jobs: int, done: dict[int, list[Any]]
    ) -> Exception | None:
        """Fill ``done`` as chunks are answered; the error that ended it early, if one did."""
        from joblib import Parallel, delayed, parallel_config

        limit = self.timeout and self.timeout * max(map(len, chunks.values()))
        with parallel_config(backend="dask" if self.backend == "dask" else "loky", n_jobs=jobs):
            if limit and self.backend == "processes":  # starting a process and its imports is not the item's time
                Parallel()(delayed(_numbered)(function, i, []) for i in range(2 * jobs))
            work = Parallel(timeout=limit, batch_size=1, pre_dispatch="all", return_as="generator_unordered")
            try:
                for i, answers in work(delayed(_numbered)(function, i, chunk) for i, chunk in chunks.items()):
                    done[i] = answers
            except (TimeoutError, multiprocessing.TimeoutError):
                return TimeoutError(f"no answer within {limit:g} s")
            except Exception as error:
                return RuntimeError(f"the worker process ended ({type(error).__name__}: {error})"[:200])
        return None

    def _cluster(self) -> int:
        """Connect to the scheduler (once) and count its threads."""
        if self._client is None:
            self._client = cluster.connect(self.address)
        return cluster.threads(self._client)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _numbered(function: Function, number: int, items: list[str]) -> tuple[int, list[Any]]:
    return number, _tried(function, items)


def _tried(function: Function, items: list[str]) -> list[Any]:
    """Answers, or what was raised. A function that fails on a list is asked item by item to lose the bad one only."""
    try:
        return list(function(items)) if items else []
    except ReprogramError as error:
        return [error for _ in items]
    except Exception as error:
        if len(items) > 1:
            return [_tried(function, [item])[0] for item in items]
        return [error]
