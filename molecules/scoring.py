"""What a design run pays for: the objective behind the ledger, scored side by side, with progress."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from molecules.objective import Objective, Scored
from molecules.workers import Workers
from reprogram.errors import DataError
from reprogram.ledger import Budget, Ledger, NamedRows
from reprogram.progress import Bar

HOPELESS = 50  # molecules that may fail before a single one has a score


class Scoring:
    """Canonical SMILES -> :class:`Scored`, each paid for once and journalled before it is used.

    journal: ``calls.jsonl``; what it holds is replayed for free, so a run that was killed goes on where it stood. It is
        written every two seconds of work or so: that much is asked again after a kill, never what is in the journal.
    Raises DataError with the oracle's own words when the first 50 molecules all fail.
    """

    def __init__(self, objective: Objective, workers: Workers, budget: int, journal: Path | None = None) -> None:
        self.objective, self.workers, self.budget = objective, workers, budget
        self.ledger = Ledger(
            self._pay,
            budget=Budget(queries=budget),
            journal=journal,
            rows=NamedRows("smiles", "score"),
            timeout=workers.timeout if workers.backend == "serial" else None,
            failed=None,
        )
        self.replayed = self.ledger.replayed
        self.calls = self.failures = 0
        self.best = -math.inf
        self.seconds = 0.0  # spent in oracles, by this process
        self.bar: Bar | None = None
        self._began = time.monotonic()

    def __call__(self, smiles: list[str]) -> list[Scored]:
        results: list[Scored] = []
        while len(results) < len(smiles):
            size = self.workers.portion
            if self.failures == self.calls:
                size = min(size, HOPELESS - self.failures)
            part = smiles[len(results) : len(results) + size]
            scored = [self._scored(text, answer) for text, answer in zip(part, self.ledger(part))]
            results += scored
            self._count(scored)
        return results

    def _pay(self, smiles: list[str]) -> list[Any]:
        began = time.perf_counter()
        answers = self.workers(self.objective.score, smiles)
        self.seconds += time.perf_counter() - began
        return [self._row(answer) for answer in answers]

    def _row(self, answer: Scored | Exception) -> dict[str, Any] | Exception:
        if isinstance(answer, Exception):
            return answer
        if math.isnan(answer.score):
            return _Unscored(answer.reason)
        return {k: getattr(answer, k) for k in ("score", "raw", "parts", "constraints")}

    def _scored(self, smiles: str, answer: dict[str, Any] | None) -> Scored:
        if answer is None:
            return Scored(smiles, math.nan, reason=self.ledger.reasons[smiles].removeprefix("_Unscored: "))
        return Scored.from_json({"smiles": smiles, **answer})

    def _count(self, scored: list[Scored]) -> None:
        self.calls += len(scored)
        self.failures += sum(math.isnan(s.score) for s in scored)
        self.best = max([self.best, *(s.score for s in scored if s.feasible)])
        if self.bar:
            rate = self.calls / max(time.monotonic() - self._began, 1e-9)
            best = "none allowed yet" if self.best == -math.inf else f"best {self.best:.4g}"
            self.bar.advance(len(scored), f"{self.budget - self.calls} calls left, {best}, {rate:.0f} calls/s")
        if self.failures == self.calls and self.calls >= HOPELESS:
            raise DataError(
                f"The oracle failed on each of the first {self.calls} molecules, so the run stopped; the last failure: "
                f"{scored[-1].reason} ({scored[-1].smiles})."
            )

    def close(self) -> None:
        self.ledger.close()
        self.workers.close()


class _Unscored(Exception):
    """A molecule without a score; its text is the reason."""
