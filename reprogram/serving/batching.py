"""Inputs of several requests in one pass: whatever waits when the model is free goes together, up to a limit.

MLServer's own adaptive batching merges requests before anybody has checked them: one request's parameters (and token) would
count for its neighbours, and a shape that lies would give them each other's answers. Here requests are read and checked one
by one, only inputs that were read share a pass, and each answer goes back by place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from reprogram.serving.wishes import RefusedRequest

Cells = dict[str, list[Any]]


@dataclass
class _Waiting:
    key: Hashable
    contents: Sequence[Any]
    answer: asyncio.Future[Cells]


class Batcher:
    """answer(contents, key) -> columns, run in ``pool``. size: most inputs in a pass (a larger request goes alone).
    seconds: that a pass may wait to become fuller; 0 waits for nothing. most: inputs that may wait; more are refused."""

    def __init__(
        self,
        answer: Callable[[Sequence[Any], Any], Cells],
        pool: Executor,
        size: int = 32,
        seconds: float = 0.0,
        most: int = 4096,
    ) -> None:
        self.answer, self.pool, self.size, self.seconds, self.most = answer, pool, max(1, size), seconds, most
        self.waiting = 0
        self.sizes: Callable[[int], Any] = lambda size: None
        self._queue: deque[_Waiting] = deque()
        self._running: asyncio.Task[None] | None = None
        self._came = asyncio.Event()

    async def ask(self, contents: Sequence[Any], key: Hashable) -> Cells:
        """Columns of these inputs. Inputs with different keys never share a pass. Raises RefusedRequest (503) when full."""
        if self.waiting and self.waiting + len(contents) > self.most:
            raise RefusedRequest("The server is busy; send the request again in a moment.", 503)
        mine = _Waiting(key, contents, asyncio.get_running_loop().create_future())
        self.waiting += len(contents)
        self._queue.append(mine)
        self._came.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await mine.answer

    async def drained(self) -> None:
        """Returns when nothing waits any more."""
        while self._running is not None and not self._running.done():
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        while self._queue:
            if self.seconds > 0:
                await self._fill()
            batch = self._next()
            size = sum(len(one.contents) for one in batch)
            self.sizes(size)
            try:
                contents = [content for one in batch for content in one.contents]
                cells = await asyncio.get_running_loop().run_in_executor(self.pool, self.answer, contents, batch[0].key)
                _share(batch, cells)
            except Exception as error:
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
            finally:
                self.waiting -= size

    async def _fill(self) -> None:
        loop, end = asyncio.get_running_loop(), asyncio.get_running_loop().time() + self.seconds
        while sum(len(one.contents) for one in self._queue) < self.size and (left := end - loop.time()) > 0:
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), left)
            except TimeoutError:
                return

    def _next(self) -> list[_Waiting]:
        """The first in the queue, and those of its key that fit beside it; the others keep their order."""
        first = self._queue.popleft()
        batch, size, others = [first], len(first.contents), deque[_Waiting]()
        while self._queue and size < self.size:
            one = self._queue.popleft()
            if one.key == first.key and size + len(one.contents) <= self.size:
                batch.append(one)
                size += len(one.contents)
            else:
                others.append(one)
        self._queue.extendleft(reversed(others))
        return batch


def _share(batch: Sequence[_Waiting], cells: Cells) -> None:
    start = 0
    for one in batch:
        end = start + len(one.contents)
        if not one.answer.done():  # a client that left
            one.answer.set_result({name: column[start:end] for name, column in cells.items()})
        start = end
