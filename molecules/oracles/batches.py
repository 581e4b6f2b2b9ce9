"""What programs and endpoints share: batches out, a list of numbers back, one reason where it goes wrong."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from molecules.oracles.base import Answer, Oracle
from reprogram.errors import SourceError

ENOUGH = 12  # requests in a row without an answer; a single bad molecule in a batch of 4,000 makes as many


class BatchFailed(Exception):
    """A whole batch has no answer; the text says why. outage: the service may be at fault, and not a molecule."""

    def __init__(self, message: str, outage: bool = False) -> None:
        super().__init__(message)
        self.outage = outage


class BatchOracle(Oracle):
    """An oracle that answers for many molecules at once and may fail for all of them.

    After a failed batch each of its molecules is asked alone, so that a bad molecule costs itself only. Where none of
    several has an answer and the service may be at fault, SourceError ends the run, and nothing is charged.
    """

    key: str
    several: ClassVar[int] = 2  # molecules without an answer that are more than bad luck

    @abstractmethod
    def ask(self, smiles: list[str]) -> Any:
        """The parsed JSON answer for these SMILES; raises :class:`BatchFailed`."""

    def answers(self, smiles: Sequence[str]) -> list[Answer]:
        found: list[Answer] = []
        for at in range(0, len(smiles), self.batch):
            part = list(smiles[at : at + self.batch])
            alive: list[bool] = []
            found += self._batch(part, alive)
            self._check(alive, len(part) >= self.several, "")
        return found

    def _batch(self, smiles: list[str], alive: list[bool]) -> list[Answer]:
        """Answers in order. alive: for each request so far, whether the service itself was in order."""
        try:
            answers = [_answer(value) for value in self._values(self.ask(smiles), len(smiles))]
        except BatchFailed as error:
            alive.append(not error.outage)
            self._check(alive, len(alive) > ENOUGH, str(error))
            if len(smiles) == 1:
                return [Answer(math.nan, str(error))]
            half = len(smiles) // 2
            return self._batch(smiles[:half], alive) + self._batch(smiles[half:], alive)
        alive.append(True)
        return answers

    def _check(self, alive: list[bool], several: bool, reason: str) -> None:
        if several and not any(alive):
            why = f": {reason}" if reason else ""
            raise SourceError(
                f"The oracle {self.name} has no answer to {len(alive)} requests in a row{why}. Nothing was charged for them; "
                "resume=true asks again."
            )

    def _values(self, answer: Any, count: int) -> list[Any]:
        """``{"score": […]}``, REINVENT's ``{"payload": {"score": […]}}`` or a plain list."""
        if isinstance(answer, dict):
            answer = answer.get("payload", answer)
        values = answer.get(self.key) if isinstance(answer, dict) else answer
        if not isinstance(values, list) or len(values) != count:
            found = f"{len(values)} values" if isinstance(values, list) else "no list"
            raise BatchFailed(f"{self.name} answered {found} under '{self.key}' for {count} molecules")
        return values


def _answer(value: Any) -> Answer:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return Answer(float(value))
    return Answer(math.nan, f"answered {value!r}"[:200])
