"""Where a ledger writes what was paid for: in memory, or as the JSON lines of a design run.

The third book, for black-box (query-only) models, is :class:`reprogram.ledger.database.AnswerStore`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from reprogram.errors import DataError
from reprogram.journal import Ballast, Journal
from reprogram.ledger.budget import TRAINING

SENT, ANSWERED, NOT_BILLED = "sent", "answered", "not billed"  # what is known of a request


class Call(NamedTuple):
    """One item that was paid for. error: why it has no answer, "" where it has one."""

    key: str
    item: Any
    answer: Any
    kind: str
    error: str = ""


class Book:
    """Finished calls by key; this one forgets everything when the process ends."""

    name = "the ledger"
    ballast: Ballast | None = None

    def __init__(self) -> None:
        self._answers: dict[str, Any] = {}
        self._sends = 0

    def calls(self) -> Iterator[Call]:
        """What earlier processes paid for and know the outcome of, in order; without items and answers."""
        return iter(())

    def billed(self) -> tuple[Counter[str], int]:
        """Items by kind that earlier processes must be taken to have paid for, and how many of them have no answer."""
        return Counter(call.kind for call in self.calls()), 0

    def get(self, key: str) -> Any | None:
        """The kept answer to this key, or None."""
        return self._answers.get(key)

    def send(self, kind: str, items: int) -> int:
        """A request is about to be sent: its number, on disk before it leaves."""
        self._sends += 1
        return self._sends

    def settle(self, send: int, state: str) -> None:
        """What is known of a request by now: ``answered``, or ``not billed``."""

    def keep(self, calls: Sequence[Call], sends: Iterable[int] = ()) -> None:
        """The outcomes of calls, and that these requests were answered: all on disk or none. OSError: the disk is full."""
        self._answers |= {call.key: call.answer for call in calls if not call.error}

    def ask_again(self, keys: Iterable[str]) -> None:
        """These failures are not final: they stay on the bill, and the next process asks once more."""

    def close(self) -> None:
        """Let other processes have it."""


class Rows(Protocol):
    """What a line of the journal says about an item, and how key and answer are read back from it."""

    def write(self, item: Any, key: str, answer: Any) -> dict[str, Any]: ...

    def read(self, row: Mapping[str, Any]) -> tuple[str, Any]: ...


@dataclass(frozen=True)
class NamedRows:
    """``{"call": 7, KEY: key, ANSWER: answer}``; a mapping as answer is spread over the line and read back as one.

    ``NamedRows("item", "score")`` names its two columns; numbers, strings, lists and arrays can be answers.
    """

    key: str = "key"
    answer: str = "answer"

    def write(self, item: Any, key: str, answer: Any) -> dict[str, Any]:
        if isinstance(answer, Mapping):
            return {self.key: key, **answer}
        return {self.key: key, self.answer: answer}

    def read(self, row: Mapping[str, Any]) -> tuple[str, Any]:
        rest = {name: value for name, value in row.items() if name not in ("call", "kind", "error", self.key)}
        answer = rest[self.answer] if set(rest) == {self.answer} else rest
        return str(row[self.key]), np.asarray(answer) if isinstance(answer, list) else answer


class JournalLines(Book):
    """A journal of JSON lines, one a call: the ``calls.jsonl`` that a design run promises."""

    def __init__(self, path: Path, rows: Rows | None = None) -> None:
        super().__init__()
        self.name, self.format = str(path), rows or NamedRows()
        self._journal = Journal(path)
        self.ballast = self._journal.ballast
        self._earlier = [self._read(number, row) for number, row in enumerate(self._journal.read(), start=1)]
        self._answers = {call.key: call.answer for call in self._earlier if not call.error}
        self._count = len(self._earlier)

    def _read(self, number: int, row: dict[str, Any]) -> Call:
        try:
            key, answer = self.format.read(row)
        except KeyError as error:
            raise DataError(f"{self.name}, line {number} has no {error}; it is not a journal of such a run.") from None
        return Call(key, None, answer, str(row.get("kind", TRAINING)), str(row["error"]) if "error" in row else "")

    def calls(self) -> Iterator[Call]:
        return iter(self._earlier)

    def keep(self, calls: Sequence[Call], sends: Iterable[int] = ()) -> None:
        rows = []
        for number, call in enumerate(calls, start=self._count + 1):
            row = {"call": number, **self.format.write(call.item, call.key, None if call.error else call.answer)}
            row |= {"error": call.error} if call.error else {}
            rows.append(row if call.kind == TRAINING else row | {"kind": call.kind})
        self._journal.append(rows)
        self._count += len(rows)
        super().keep(calls)

    def close(self) -> None:
        self._journal.close()
