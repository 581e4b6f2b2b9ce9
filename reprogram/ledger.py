"""Calls that cost: counted before they are sent, journalled when answered, budgeted, cached and resumable.

A query to a model that can only be asked and a call of a molecule oracle are the same thing: items go in, answers come
out, and every *new* item is paid for. ``Ledger`` stands in front of any function that answers a batch.

Three promises hold whenever the process dies: an answered call is never paid for again, the budget is never exceeded,
and a deterministic caller that starts over sees the same answers and the same counts as the first time.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from reprogram.errors import BudgetSpent, ConfigError, DataError, ReprogramError
from reprogram.journal import Journal, NamedRows, Rows
from reprogram.ranges import Amount, Checked, NotNegative

TRAINING, EVALUATION = "training", "evaluation"
Chunk = list[tuple[str, Any]]  # keys and items that are sent together


@dataclass(frozen=True)
class Budget(Checked):
    """Hard limits; None means no limit.

    queries: calls for training (evaluation is counted apart and not limited by it).
    price: what all calls together may cost, evaluation included, in the currency of ``price_per_query``.
    evaluation: calls of ``price`` that training must leave for the test set.
    """

    group: ClassVar[str] = "budget."

    queries: Amount | None = None
    price: NotNegative | None = None
    price_per_query: NotNegative = 0.0
    evaluation: Amount = 0

    def __post_init__(self) -> None:
        for name in ("queries", "price", "price_per_query", "evaluation"):
            value = getattr(self, name)
            if value is not None and (not math.isfinite(value) or value < 0):
                raise ConfigError(f"budget.{name}={value} must not be negative.")

    def affordable(self, kind: str, paid: Mapping[str, int]) -> float:
        """How many more calls of this kind the limits allow."""
        total = sum(paid.values())
        by_count = math.inf if self.queries is None or kind != TRAINING else self.queries - paid.get(TRAINING, 0)
        by_price = math.inf
        if self.price is not None and self.price_per_query > 0:
            by_price = math.floor(self.price / self.price_per_query + 1e-9) - total
            if kind == TRAINING:
                by_price -= max(0, self.evaluation - paid.get(EVALUATION, 0))
        return max(0, min(by_count, by_price))

    def __str__(self) -> str:
        limits = [] if self.queries is None else [f"budget.queries={self.queries}"]
        limits += [] if self.price is None else [f"budget.price={self.price:g} at {self.price_per_query:g} a query"]
        return " and ".join(limits) or "no limit"


class Store(Protocol):
    """Where big answers live, e.g. :class:`reprogram.sources.answers.AnswerStore`; the journal then holds keys only."""

    def get(self, key: str) -> Any | None: ...

    def put(self, answers: Mapping[str, Any]) -> None: ...


@dataclass
class Failed:
    """An item without an answer, and why."""

    reason: str


class Ledger:
    """Stands in front of ``call``: a batch of items in, one answer an item out, every new key paid for once.

    call: list of items -> one answer an item: a number, an array, a mapping of JSON values, or an ``Exception`` for an
        item that has none. When it raises, its items are tried one at a time so that the bad one alone is lost; a
        ``ReprogramError`` (server down, wrong token) instead ends the request after keeping what was answered.
    key: what makes two items the same: canonical SMILES, or :func:`content_key` of an array.
    budget: hard limits. journal: JSON lines, one an answered call; None keeps the ledger in memory.
    rows: what a line holds. store: where answers live when they are too big for lines.
    batch: most items in one ``call``; workers: how many calls at a time; timeout: seconds an item may take.
    failed: what the caller gets for an item that has no answer (its reason is in ``reasons`` and in the journal).
    whole: pay for all new items of a request or for none, where half an answer is of no use.
    bill_unanswered: count calls that were under way when the process died; right for services that bill requests.

    A journal that exists is read first: its answers are free. ``calls`` counts the distinct keys that *this* process
    asked for and did not find in the store, replayed or new, so a deterministic search that starts over sees the same
    counts; ``paid`` is what the journal and this process paid together, and what the budget limits.
    """

    def __init__(
        self,
        call: Callable[[list[Any]], Iterable[Any]],
        key: Callable[[Any], str] = str,
        budget: Budget | None = None,
        journal: str | Path | None = None,
        *,
        rows: Rows | None = None,
        store: Store | None = None,
        batch: int | None = None,
        workers: int = 1,
        timeout: float | None = None,
        failed: Any = math.nan,
        whole: bool = False,
        bill_unanswered: bool = False,
    ) -> None:
        self.call, self.key, self.budget = call, key, budget or Budget()
        self.format, self.store, self.failed = rows or NamedRows(), store, failed
        self.batch, self.workers, self.timeout, self.whole = batch, max(1, workers), timeout, whole
        self.reasons: dict[str, str] = {}
        self.rows: list[dict[str, Any]] = []  # the journal's lines, in order
        self.asked = 0  # items that were asked for, repeated ones included
        self.counts: Counter[str] = Counter()  # calls of this process by kind
        self.paid: Counter[str] = Counter()  # calls by kind, this process and the journal's earlier ones
        self._index: dict[str, Any] = {}
        self._journalled: set[str] = set()
        self._seen: set[str] = set()
        self._full = ""
        self._held_back = 0
        self._lock = threading.RLock()
        self.journal = None if journal is None else Journal(Path(journal), sent_file=bill_unanswered)
        if self.journal:
            for row in self.journal.read():
                self._enter(*self.format.read(row), row)
                self.paid[str(row.get("kind", TRAINING))] += 1
        self.lost = max(0, self.journal.sent() - len(self.rows)) if self.journal else 0
        self.paid[TRAINING] += self.lost  # sent by a process that died before the answer was kept

    @property
    def calls(self) -> int:
        return sum(self.counts.values())

    def remaining(self, kind: str = TRAINING) -> float:
        """Calls of this kind that can still be paid for, infinity without a limit."""
        return max(0, self.budget.affordable(kind, self.paid) - (self._held_back if kind == TRAINING else 0))

    @contextmanager
    def holding_back(self, calls: int) -> Iterator[None]:
        """Inside, so many training calls of the budget cannot be spent."""
        self._held_back += calls
        try:
            yield
        finally:
            self._held_back -= calls

    def price(self, items: Iterable[Any]) -> int:
        """Distinct keys among ``items`` that would have to be paid for."""
        with self._lock:
            return sum(not self._known(key)[0] for key in {self.key(item) for item in items})

    def __call__(self, items: Iterable[Any], kind: str = TRAINING) -> list[Any]:
        """One answer an item, in order; ``failed`` for an item that has none.

        Raises ``BudgetSpent`` when the budget cannot pay for all new keys, after answering those it can: the error's
        ``answers`` has them, with None for the rest.
        """
        items = list(items)
        keys = [self.key(item) for item in items]
        with self._lock:
            self.asked += len(keys)
            found: dict[str, Any] = {}
            new: dict[str, Any] = {}
            for key, item in zip(keys, items, strict=True):
                if key in found or key in new:
                    continue
                known, answer = self._known(key)
                if known:
                    found[key] = answer
                    self._replay(key, kind)
                else:
                    new[key] = item
            payable = int(min(len(new), self.remaining(kind)))
            if self.whole and payable < len(new):
                payable = 0
            found |= self._pay(list(islice(new.items(), payable)), kind)
            answers = [found.get(key) for key in keys]
            if payable < len(new):
                raise BudgetSpent(
                    f"The budget is spent ({self.budget}; {sum(self.paid.values())} calls paid for): "
                    f"{len(new) - payable} of {len(new)} new items stay unanswered.",
                    answers,
                )
            return answers

    def bill(self) -> dict[str, Any]:
        """What the run cost: calls by kind, the price, and the share of questions that the cache answered."""
        total = sum(self.paid.values())
        return {
            "queries": total,
            "by_kind": {kind: count for kind, count in sorted(self.paid.items()) if count},
            "asked": self.asked,
            "saved_share": 1 - self.calls / self.asked if self.asked else 0.0,
            "price": total * self.budget.price_per_query,
            "failed": len(self.reasons),
            "sent_but_unanswered": self.lost,
        }

    def close(self) -> None:
        if self.journal:
            self.journal.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _known(self, key: str) -> tuple[bool, Any]:
        if key in self.reasons:
            return True, self.failed
        if key in self._index:
            return True, self._index[key]
        answer = None if self.store is None else self.store.get(key)
        return answer is not None, answer

    def _replay(self, key: str, kind: str) -> None:
        """A key of an earlier process's journal counts as a call of this one when it is first asked for."""
        if key in self._journalled and key not in self._seen:
            self._seen.add(key)
            self.counts[kind] += 1

    def _enter(self, key: str, answer: Any, row: dict[str, Any]) -> None:
        """Take one answered call into the index."""
        if "error" in row:
            self.reasons[key] = str(row["error"])
        elif self.store is None:
            self._index[key] = answer
        self._journalled.add(key)
        self.rows.append(row)

    def _pay(self, new: list[tuple[str, Any]], kind: str) -> dict[str, Any]:
        size = self.batch or max(1, len(new))
        answered: dict[str, Any] = {}
        for chunk, answers in self._each([new[i : i + size] for i in range(0, len(new), size)], kind):
            answered |= self._keep(chunk, answers, kind)
        if self._full:
            raise DataError(
                f"The disk of {self.journal.path if self.journal else 'the store'} is full ({self._full}): all "
                f"{len(self.rows)} answers so far are kept; make room and start again with resume=true."
            )
        return answered

    def _each(self, chunks: list[Chunk], kind: str) -> Iterator[tuple[Chunk, list[Any]]]:
        """Send chunks, at most ``workers`` at a time, and yield each as it is answered. What was under way when one
        fails is still waited for and yielded, since it is paid for; nothing more is sent."""
        if self.workers == 1:
            for chunk in chunks:
                if not self._full:
                    self._count(len(chunk), kind)
                    try:
                        answers = self._answers([item for _, item in chunk])
                    except ReprogramError:
                        self._refund(len(chunk), kind)
                        raise
                    yield chunk, answers
            return
        waiting, running = iter(chunks), dict[Future[list[Any]], Chunk]()
        error: BaseException | None = None
        with ThreadPoolExecutor(self.workers) as pool:
            while True:
                answered = []
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    chunk = running.pop(future)
                    if failure := future.exception():
                        self._refund(len(chunk), kind)
                        error = error or failure
                    else:
                        answered.append((chunk, future.result()))
                for chunk in islice(waiting, 0 if error or self._full else self.workers - len(running)):
                    try:
                        self._count(len(chunk), kind)
                    except DataError as full:
                        error = full
                        break
                    running[pool.submit(self._answers, [item for _, item in chunk])] = chunk
                yield from answered  # kept while the next requests are under way
                if not running:
                    break
        if error:
            raise error

    def _count(self, calls: int, kind: str) -> None:
        """Before sending: room for the answers, then the count, on disk."""
        if self.journal:
            try:
                self.journal.hold_ballast()
            except OSError as error:
                raise DataError(
                    f"{self.journal.path} has no room for more answers ({error.strerror}); nothing more was sent."
                ) from error
        self.paid[kind] += calls
        if self.journal:
            self.journal.mark_sent(sum(self.paid.values()))

    def _refund(self, calls: int, kind: str) -> None:
        """A service that refused or failed has not billed the request."""
        self.paid[kind] -= calls
        if self.journal:
            self.journal.mark_sent(sum(self.paid.values()))

    def _answers(self, items: list[Any]) -> list[Any]:
        try:
            answers = list(self._timed(items))
        except ReprogramError:
            raise
        except Exception as error:
            if len(items) > 1:
                return [self._answers([item])[0] for item in items]
            return [Failed(f"{type(error).__name__}: {error}".rstrip(": "))]
        if len(answers) != len(items):
            raise DataError(f"{len(items)} items were sent, {len(answers)} answers came back.")
        return [_checked(answer) for answer in answers]

    def _timed(self, items: list[Any]) -> Iterable[Any]:
        if self.timeout is None:
            return self.call(items)
        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append(list(self.call(items)))
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=work, daemon=True)  # a call that never ends must not keep the process alive
        thread.start()
        thread.join(self.timeout * len(items))
        if not outcome:
            raise TimeoutError(f"no answer within {self.timeout:g} s")
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _keep(self, chunk: Chunk, answers: list[Any], kind: str) -> dict[str, Any]:
        """Answers to the store, then lines to the journal, each on disk before the next: a journalled key always has
        its answer."""
        rows, kept = [], {}
        for number, ((key, item), answer) in enumerate(zip(chunk, answers, strict=True), start=len(self.rows) + 1):
            if isinstance(answer, Failed):
                row = self.format.write(item, key, None) | {"error": answer.reason}
            else:
                row = self.format.write(item, key, answer if self.store is None else None)
                kept[key] = answer
            rows.append({"call": number, **row} | ({} if kind == TRAINING else {"kind": kind}))
        if self.store is not None and kept:
            self._durably(self.store.put, kept)
        if self.journal:
            self._durably(self.journal.append, rows)
        for (key, _), row, answer in zip(chunk, rows, answers, strict=True):
            self._enter(key, answer, row)
            self._seen.add(key)
        self.counts[kind] += len(chunk)
        return {key: kept.get(key, self.failed) for key, _ in chunk}

    def _durably(self, write: Callable[[Any], None], what: Any) -> None:
        """Write; when the disk is full, give back the ballast and write again."""
        try:
            write(what)
        except OSError as error:
            if self.journal is None or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.journal.drop_ballast()
            write(what)
            self._full = os.strerror(error.errno)


def _checked(answer: Any) -> Any:
    """An exception or NaN as ``Failed``; everything else as it is."""
    if isinstance(answer, Exception):
        return Failed(f"{type(answer).__name__}: {answer}".rstrip(": "))
    values = answer.values() if isinstance(answer, Mapping) else [answer]
    for value in values:
        if isinstance(value, float | np.floating | np.ndarray) and np.isnan(value).any():
            return Failed("the answer is NaN")
    return answer


def content_key(array: Any) -> str:
    """SHA-256 of an array's type, shape and bytes: the key of an image."""
    raw = np.ascontiguousarray(array)
    return hashlib.sha256(f"{raw.dtype}{raw.shape}".encode() + raw.tobytes()).hexdigest()
