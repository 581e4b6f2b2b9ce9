"""A Dask cluster: connected to by its address, and asked for pieces of work whose answers come back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reprogram.errors import ConfigError, ReprogramError, SourceError

ATTEMPTS = 3  # at a piece of work, of which the cluster itself repeats what a lost worker held


def connect(address: str | None) -> Any:
    """A client of the scheduler at ``address``. Raises ConfigError in one sentence that names the key."""
    if not address:
        raise ConfigError("parallel.backend=dask needs parallel.address, such as tcp://host:8786.")
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("parallel.backend=dask needs Dask: pip install 'reprogram[cluster]'.") from error
    try:
        return Client(address, timeout=20, set_as_default=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"No Dask scheduler answers at parallel.address={address} ({error}).") from error


def threads(client: Any) -> int:
    """Of all workers together, at least 1."""
    return max(1, sum(client.nthreads().values()))


def in_order(client: Any, function: Callable[..., Any], items: Iterable[Any], *shared: Any) -> Iterator[Any]:
    """``function(item, *shared)`` of each item, in their order, a few pieces a worker ahead and never more in memory.

    shared: held once on the cluster, and made again where the worker that held it is lost.
    """
    held = [client.submit(_itself, value, key=f"shared-{i}-{id(client)}") for i, value in enumerate(shared)]
    waiting: deque[tuple[Any, Any]] = deque()
    ahead = 2 * threads(client) + 1

    def submit(item: Any) -> Any:
        return client.submit(function, item, *held, pure=False, retries=ATTEMPTS)

    for item in items:
        waiting.append((item, submit(item)))
        if len(waiting) >= ahead:
            yield _result(*waiting.popleft(), submit)
    while waiting:
        yield _result(*waiting.popleft(), submit)


def _result(item: Any, future: Any, submit: Callable[[Any], Any]) -> Any:
    for attempt in range(ATTEMPTS):
        try:
            return future.result()
        except ReprogramError:
            raise
        except Exception as error:  # distributed's own errors are many: a killed worker, a lost connection
            if attempt + 1 == ATTEMPTS:
                text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise SourceError(f"The Dask cluster gave no answer to a piece of work ({text}).") from error
            future = submit(item)
    raise AssertionError


def _itself(value: Any) -> Any:
    return value
