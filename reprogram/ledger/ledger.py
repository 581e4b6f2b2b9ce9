"""The ledger itself: it stands in front of a function that answers batches, and counts, caches and limits its calls."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from reprogram.errors import BudgetSpent, DataError, ReprogramError, SourceError
from reprogram.ledger.book import ANSWERED, NOT_BILLED, Book, Call, JournalLines, Rows
from reprogram.ledger.budget import TRAINING, Budget
from reprogram.ledger.database import AnswerStore
from reprogram.ledger.outcomes import Chunk, Failed, Reply, checked, reason


class Charge:
    """What one request adds to the bill, attempt by attempt; handed to the ``call`` of a metered ledger."""

    def __init__(self, ledger: Ledger | None = None, kind: str = TRAINING, items: int = 0) -> None:
        self.ledger, self.kind, self.items = ledger, kind, items
        self.number: int | None = None  # of the attempt that is under way
        self.replied_to = False

    def sending(self) -> None:
        """Just before an attempt is sent: it is on the bill, on disk. BudgetSpent where the budget cannot pay for it."""
        if self.ledger is not None:
            self.number, self.replied_to = self.ledger.write_ahead(self.kind, self.items), False

    def not_billed(self) -> None:
        """The attempt cannot have been billed: it never arrived, or the service refused it."""
        if self.ledger is not None and self.number is not None:
            self.ledger.take_back(self.number, self.kind, self.items)
        self.number = None

    def replied(self) -> None:
        """The service has answered the attempt, whatever it said, so it is billed for sure."""
        if self.ledger is not None and self.number is not None and not self.replied_to:
            self.ledger.note_reply(self.items)
        self.replied_to = True

    def answered(self) -> list[int]:
        """The attempt that the answers are of."""
        return [self.number] if self.number is not None and self.replied_to else []


class Ledger:
    """Stands in front of ``call``: a batch of items in, one answer an item out, every new key paid for once.

    call: list of items -> one answer an item: a number, an array, a mapping of JSON values, or an ``Exception`` for an
        item that has none. When it raises, its items are tried one at a time so that the bad one alone is lost; a
        ``ReprogramError`` (server down, wrong token) instead ends the request after keeping what was answered.
    key: what makes two items the same: a canonical string, or :func:`content_key` of an array.
    budget: hard limits. journal: JSON lines, one an answered call, written as ``rows`` says. store: a book in place of
        the journal. Neither: the ledger lives in memory.
    cache: answers that several runs share: what it holds is free.
    batch: most items in one ``call``; workers: how many calls at a time; timeout: seconds an item may take.
    failed: what the caller gets for an item that has no answer (its reason is in ``reasons`` and in the book).
    whole: pay for all new items of a request or for none, where half an answer is of no use.
    metered: ``call(items, charge)`` tells of every attempt through its :class:`Charge`, before it is sent. Then each
        attempt is on the bill until it is known that it cannot have been billed: retries, answers that could not be
        used, and what was under way when the process died. Otherwise the distinct items that were answered count.

    A book that exists is read first: its answers are free. ``calls`` counts the distinct keys that *this* process
    asked for and did not find in the cache, replayed or new, so a deterministic search that starts over sees the same
    counts; ``paid`` is what all processes paid together, and what the budget limits.
    """

    def __init__(
        self,
        call: Callable[..., Iterable[Any]],
        key: Callable[[Any], str] = str,
        budget: Budget | None = None,
        journal: str | Path | None = None,
        *,
        rows: Rows | None = None,
        store: Book | None = None,
        cache: AnswerStore | None = None,
        batch: int | None = None,
        workers: int = 1,
        timeout: float | None = None,
        failed: Any = math.nan,
        whole: bool = False,
        metered: bool = False,
    ) -> None:
        self.call, self.key, self.budget, self.failed = call, key, budget or Budget(), failed
        self.batch, self.workers, self.timeout = batch, max(1, workers), timeout
        self.whole, self.metered = whole, metered
        self.book = store if store is not None else Book() if journal is None else JournalLines(Path(journal), rows)
        self.cache = cache
        self.reasons: dict[str, str] = {}
        self.asked = 0  # items that were asked for, repeated ones included
        self.counts: Counter[str] = Counter()  # calls of this process by kind
        self.paid, self.lost = self.book.billed()  # by kind, all processes; and what died before its answer was kept
        self.unanswered = self.lost  # of ``paid``: items that a service may not have billed, for all that is known
        self._earlier: set[str] = set()
        self._seen: set[str] = set()
        self._full = ""
        self._held_back = 0
        self._lock = threading.RLock()  # one request at a time
        self._money = threading.RLock()  # the book and the bill, which workers write to as well
        for call_of_before in self.book.calls():
            self._earlier.add(call_of_before.key)
            if call_of_before.error:
                self.reasons[call_of_before.key] = call_of_before.error
        self.replayed = self.finished = len(self._earlier)  # calls with an outcome: before this process, and by now

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
            try:
                self._pay(list(islice(new.items(), payable)), kind, found)
            except BudgetSpent as error:  # an attempt that had to be paid for twice
                error.answers = [found.get(key) for key in keys]
                raise
            answers = [found.get(key) for key in keys]
            if payable < len(new):
                left = f"{len(new) - payable} of {len(new)} new items stay unanswered."
                raise BudgetSpent(f"{self._spent()}: {left}", answers)
            return answers

    def bill(self) -> dict[str, Any]:
        """What the run cost: calls by kind, the price, and the share of questions that the cache answered.

        ``queries`` is what the service can have billed at most; of these ``sent_but_unanswered`` may not be on its own
        bill (a time-out, a lost connection, a process that died), because nobody here can know.
        """
        total = sum(self.paid.values())
        return {
            "queries": total,
            "by_kind": {kind: count for kind, count in sorted(self.paid.items()) if count},
            "asked": self.asked,
            "saved_share": 1 - self.calls / self.asked if self.asked else 0.0,
            "price": total * self.budget.price_per_query,
            "failed": len(self.reasons),
            "sent_but_unanswered": self.unanswered,
        }

    def earlier(self, key: str) -> bool:
        """Did an earlier process pay for this key?"""
        return key in self._earlier

    def ask_again(self, keys: Iterable[str]) -> None:
        """Take failures of these keys back: they stay on the bill, and are asked once more."""
        failed = [key for key in keys if self.reasons.pop(key, None) is not None]
        with self._money:
            self.book.ask_again(failed)
        self._earlier.difference_update(failed)

    def close(self) -> None:
        self.book.close()
        if self.cache is not None:
            self.cache.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write_ahead(self, kind: str, items: int) -> int:
        """An attempt is about to be sent: on the bill and on disk first. BudgetSpent where it cannot be paid for."""
        with self._money:
            if items > self.remaining(kind):
                raise BudgetSpent(f"{self._spent()}: {items} items cannot be sent once more.")
            number = self.book.send(kind, items)
            self.paid[kind] += items
            self.unanswered += items
            return number

    def note_reply(self, items: int) -> None:
        """A reply arrived for so many inputs."""
        with self._money:
            self.unanswered -= items

    def take_back(self, number: int, kind: str, items: int) -> None:
        """Remove a request from the bill that cannot have been billed."""
        with self._money:
            self.book.settle(number, NOT_BILLED)
            self.paid[kind] -= items
            self.unanswered -= items

    def _spent(self) -> str:
        return f"The budget is spent ({self.budget}; {sum(self.paid.values())} calls paid for)"

    def _known(self, key: str) -> tuple[bool, Any]:
        if key in self.reasons:
            return True, self.failed
        with self._money:
            answer = self.book.get(key)
            if answer is None and self.cache is not None:
                answer = self.cache.get(key)
        return answer is not None, answer

    def _replay(self, key: str, kind: str) -> None:
        """A key that an earlier process paid for counts as a call of this one when it is first asked for."""
        if key in self._earlier and key not in self._seen:
            self._seen.add(key)
            self.counts[kind] += 1

    def _pay(self, new: Chunk, kind: str, found: dict[str, Any]) -> None:
        """Answers of new items into ``found``, as they come."""
        size = self.batch or max(1, len(new))
        error: BaseException | None = None
        for reply in self._replies([new[i : i + size] for i in range(0, len(new), size)], kind):
            found |= self._keep(reply, kind)
            error = error or reply.error
        if error:
            raise error
        if self._full:
            raise DataError(
                f"The disk of {self.book.name} is full ({self._full}): all {self.finished} answers so far are kept; "
                "make room and start again with resume=true."
            )

    def _replies(self, chunks: list[Chunk], kind: str) -> Iterator[Reply]:
        """Send chunks, at most ``workers`` at a time, and yield each as it is answered. What was under way when one
        fails is still waited for and yielded, since it is paid for; nothing more is sent."""
        if self.workers == 1:
            for chunk in chunks:
                if self._full:
                    return
                self._make_room()
                reply = self._send(chunk, kind)
                yield reply
                if reply.error:
                    return
            return
        waiting, running = iter(chunks), set[Future[Reply]]()
        stopped: BaseException | None = None
        with ThreadPoolExecutor(self.workers) as pool:
            while True:
                ended = wait(running, return_when=FIRST_COMPLETED).done  # others may end from here on: they are next
                done = [future.result() for future in ended]
                running -= ended
                stopped = stopped or next((reply.error for reply in done if reply.error), None)
                for chunk in islice(waiting, 0 if stopped or self._full else self.workers - len(running)):
                    try:
                        self._make_room()
                    except DataError as full:
                        stopped = full
                        done.append(Reply(error=full))
                        break
                    running.add(pool.submit(self._send, chunk, kind))
                yield from done  # kept while the next requests are under way
                if not running:
                    return

    def _make_room(self) -> None:
        """Before sending: room for the answers."""
        if self.book.ballast is None:
            return
        try:
            self.book.ballast.hold()
        except OSError as error:
            raise DataError(
                f"{self.book.name} has no room for more answers ({error.strerror}); nothing more was sent."
            ) from error

    def _send(self, chunk: Chunk, kind: str) -> Reply:
        charge = Charge(self, kind, len(chunk))
        items = [item for _, item in chunk]
        try:
            answers = list(self.call(items, charge) if self.metered else self._timed(items))
            if len(answers) != len(items):
                raise DataError(f"{len(items)} items were sent, {len(answers)} answers came back.")
        except ReprogramError as error:
            for number in charge.answered():  # what cannot be used is billed all the same
                with self._money:
                    self.book.settle(number, ANSWERED)
            return Reply(error=error)
        except Exception as error:
            if len(chunk) > 1:
                return self._one_by_one(chunk, kind)
            return Reply(chunk, [Failed(reason(error))], charge.answered())
        return Reply(chunk, [checked(answer) for answer in answers], charge.answered())

    def _one_by_one(self, chunk: Chunk, kind: str) -> Reply:
        """So that a bad item is lost alone. Where a service has no answer to any of them, it is not the items."""
        whole = Reply()
        for pair in chunk:
            one = self._send([pair], kind)
            whole.chunk += one.chunk
            whole.answers += one.answers
            whole.sends += one.sends
            whole.error = one.error
            if one.error:
                return whole
        if self.metered and all(isinstance(answer, Failed) for answer in whole.answers):
            why = whole.answers[0].reason
            return Reply(error=SourceError(f"None of {len(chunk)} inputs that were sent has an answer: {why}."))
        return whole

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

    def _keep(self, reply: Reply, kind: str) -> dict[str, Any]:
        """Outcomes to the book, on disk before anyone sees them; then to the cache that runs share."""
        if not reply.chunk:
            return {}
        calls, kept = [], {}
        for (key, item), answer in zip(reply.chunk, reply.answers, strict=True):
            if isinstance(answer, Failed):
                calls.append(Call(key, item, None, kind, answer.reason))
                self.reasons[key] = answer.reason
            else:
                calls.append(Call(key, item, answer, kind))
                kept[key] = answer
        with self._money:
            self._durably(calls, reply.sends)
            if self.cache is not None:
                self.cache.put(kept)
            self.finished += len(calls)
            self.counts[kind] += len(calls)
            self._seen.update(call.key for call in calls)
            if not self.metered:
                self.paid[kind] += len(calls)
        return {call.key: kept.get(call.key, self.failed) for call in calls}

    def _durably(self, calls: list[Call], sends: list[int]) -> None:
        """Write; when the disk is full, give back the ballast and write again."""
        try:
            self.book.keep(calls, sends)
        except OSError as error:
            if self.book.ballast is None or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.book.ballast.drop()
            self.book.keep(calls, sends)
            self._full = os.strerror(error.errno)
