"""Clients that kill themselves at a chosen moment; each line of stdin is one: ``[kind, address or log, folder, moment]``.

A line of stdout answers: the exit status, then what the client printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx  # noqa: F401
import numpy as np
import orjson  # noqa: F401
import tenacity  # noqa: F401
import torch

from reprogram.ledger.database import AnswerStore
from reprogram.sources.callable import CallableSource
from reprogram.sources.remote import RemoteSource

LABELS = ["ant", "bee", "cat", "dog", "elk"]
THIRD = 3  # the time that the moment comes


def dying(times: int) -> Callable[[], None]:
    left = [times]

    def die() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def prepare(moment: str, die: Callable[[], None]) -> None:
    """Let the store die before or after it writes."""
    send, keep, inner = AnswerStore.send, AnswerStore.keep, AnswerStore._transaction
    store: Any = AnswerStore
    if moment == "before the intent":
        store.send = lambda self, *rest: (die(), send(self, *rest))[1]
    if moment == "after the intent":
        store.send = lambda self, *rest: (send(self, *rest), die())[0]
    if moment == "after the answer":
        store.keep = lambda self, *rest: (die(), keep(self, *rest))[1]
    if moment == "between requests":
        store.keep = lambda self, *rest: (keep(self, *rest), die())[0]
    if moment == "in the commit":

        @contextlib.contextmanager
        def transaction(self: AnswerStore) -> Iterator[Any]:
            with inner(self) as write:
                yield write
                if write.execute("SELECT count(*) FROM answers").fetchone()[0] > 4:  # of the third request
                    os.kill(os.getpid(), signal.SIGKILL)

        store._transaction = transaction


def client(kind: str, where: str, folder: str, moment: str) -> str:
    die = dying(THIRD)
    prepare(moment, die)

    def function(x: np.ndarray) -> np.ndarray:
        with open(where, "a") as log:
            log.write("x\n" * len(x))
        if moment == "in the call":
            die()
        return np.full((len(x), 5), 0.2)

    options: dict[str, Any] = {"batch": 2, "journal": f"{folder}/a"}
    made = RemoteSource(where, "tiny", LABELS, **options) if kind == "remote" else None
    source = made or CallableSource(function, LABELS, **options)
    source(torch.rand((12, 3, 4, 4), generator=torch.Generator().manual_seed(0)))
    bill = source.ledger.bill()
    return f"{bill['queries']} {bill['sent_but_unanswered']} {source.ledger.calls}"


for line in sys.stdin:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, client(*json.loads(line)).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, os.read(read, 100).decode(), flush=True)
    os.close(read)
