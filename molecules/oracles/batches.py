"""What programs and endpoints share: batches out, a list of numbers back, one reason where it goes wrong."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from molecules.oracles.base import Answer, Oracle


class BatchFailed(Exception):
    """A whole batch has no answer; the text says why."""


class BatchOracle(Oracle):
    """An oracle that answers for many molecules at once and may fail for all of them.

    After a failed batch each of its molecules is asked alone, so that a bad molecule costs itself only.
    """

    key: str

    @abstractmethod
    def ask(self, smiles: list[str]) -> Any:
        """The parsed JSON answer for these SMILES; raises :class:`BatchFailed`."""

    def answers(self, smiles: Sequence[str]) -> list[Answer]:
        found: list[Answer] = []
        for at in range(0, len(smiles), self.batch):
            found += self._batch(list(smiles[at : at + self.batch]))
        return found

    def _batch(self, smiles: list[str]) -> list[Answer]:
        try:
            return [_answer(value) for value in self._values(self.ask(smiles), len(smiles))]
        except BatchFailed as error:
            if len(smiles) == 1:
                return [Answer(math.nan, str(error))]
        half = len(smiles) // 2
        return self._batch(smiles[:half]) + self._batch(smiles[half:])

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
