"""The one layer between a search and the oracles: budget, repeats, batches, processes and the journal.

A :class:`Evaluator` answers for canonical SMILES. A molecule that was evaluated before costs nothing, a new one costs one
call of the budget, and its answer is in the journal before the search sees it. All counting is the ledger's.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from molecules import chemistry
from molecules.objective import Objective, Scored, best_of
from molecules.workers import Workers
from reprogram.errors import BudgetSpent, ConfigError, DataError
from reprogram.ledger import Budget, Ledger, NamedRows
from reprogram.ledger.outcomes import Failed
from reprogram.progress import Bar
from reprogram.ranges import Count

HOPELESS = 50  # evaluations without a single score that end a run


class TargetReached(BudgetSpent):
    """A feasible molecule with the wanted score was found; the rest of the budget is not used."""


@dataclass
class DiversityFilter:
    """Stops a search from staying on one scaffold (REINVENT's IdenticalMurckoScaffold).

    Once ``bucket`` molecules with at least ``min_score`` share a Bemis–Murcko scaffold, further ones count as 0 to the
    search (as ``min_score`` where that is negative). The reported score does not change.
    """

    bucket: Count = 25
    min_score: float = 0.4

    def __post_init__(self) -> None:
        if self.bucket < 1:
            raise ConfigError(f"diversity bucket is {self.bucket}; it must be at least 1.")
        self._filled: dict[str, int] = defaultdict(int)

    @property
    def beyond(self) -> float:
        """What a molecule counts beyond its bucket: never more than one that the bucket takes."""
        return min(0.0, self.min_score)

    def admit(self, scored: Scored) -> bool:
        """Count the molecule in its scaffold's bucket; False if the bucket was already full."""
        if math.isnan(scored.score) or scored.score < self.min_score:
            return True
        scaffold = chemistry.scaffold(scored.smiles)
        self._filled[scaffold] += 1
        return self._filled[scaffold] <= self.bucket


class Evaluator:
    """Scores molecules for one search, under one budget.

    objective: what is evaluated. budget: the most evaluations of new molecules, replayed ones included.
    target: stop at the first feasible molecule with this score. diversity: a filter on what the search sees.
    workers: where the oracles run; in this process if it is not given.
    journal: ``calls.jsonl``; its answers are replayed for free, so a run that was killed continues where it stopped. It
        is written about every two seconds of work: only that much is evaluated again after a kill.
    judged_again: constraints of replayed molecules are asked again, because they may be others than when it was written.
    calls: everything evaluated so far, in order.
    """

    def __init__(
        self,
        objective: Objective,
        budget: int,
        *,
        target: float | None = None,
        diversity: DiversityFilter | None = None,
        workers: Workers | None = None,
        journal: Path | None = None,
        judged_again: bool = False,
    ) -> None:
        if budget < 0:
            raise ConfigError(f"budget is {budget}; it must be 0 or more.")
        self.objective, self.budget, self.target, self.diversity = objective, budget, target, diversity
        self.workers, self.judged_again = workers or Workers("serial"), judged_again
        self.ledger = Ledger(
            self._ask,
            budget=Budget(),  # counted here: answers in the journal that this run does not ask for are not its own
            journal=journal,
            rows=NamedRows("smiles", "score"),
            timeout=self.workers.timeout if self.workers.backend == "serial" else None,
            failed=None,
        )
        self.replayed = 0  # answers that came from the journal
        self.calls: list[Scored] = []
        self._seen: dict[str, Scored] = {}  # what the search sees of each evaluated molecule
        self.failures = 0
        self.best_score = -math.inf
        self.seconds = 0.0  # spent in oracles, by this process
        self.bar: Bar | None = None
        self._began = time.monotonic()

    @property
    def left(self) -> int:
        """Evaluations that the budget still allows."""
        return self.budget - self.ledger.calls

    def cost(self, seconds: float) -> dict[str, float]:
        """What a run of ``seconds`` took, for its report."""
        return {
            "seconds": seconds,
            "oracle_seconds": self.seconds,
            "calls_per_second": len(self.calls) / max(seconds, 1e-9),
            "calls_from_journal": self.replayed,
        }

    def known(self, smiles: str) -> bool:
        """Was this canonical SMILES evaluated before?"""
        return smiles in self._seen

    def violations(self, smiles: Sequence[str]) -> np.ndarray:
        """How far canonical SMILES are from the constraints, [N]; free of charge."""
        return self.objective.violations(smiles)

    def score(self, smiles: Sequence[str], parents: Sequence[str] | None = None) -> list[Scored]:
        """Evaluate new molecules and answer for all of them, as the search shall see them.

        SMILES that cannot be parsed cost nothing and come back with score NaN. At the limit as many molecules are
        evaluated as the budget allows, and :class:`BudgetSpent` is raised; a reached target raises
        :class:`TargetReached`, an oracle that fails on the first 50 molecules DataError with its own reason.
        """
        keys = [chemistry.canonical(text) for text in smiles]
        new: dict[str, str] = {}
        for i, key in enumerate(keys):
            if key is not None and key not in self._seen and key not in new:
                new[key] = parents[i] if parents else ""
        affordable = list(new)[: self.left]
        self._record(self._evaluate(affordable), new)
        if len(affordable) < len(new) or (new and self.left == 0):
            raise BudgetSpent(f"the budget of {self.budget} calls is spent.")
        return [
            Scored(text, math.nan, reason="not a SMILES that RDKit can parse") if key is None else self._seen[key]
            for text, key in zip(smiles, keys)
        ]

    def best(self, count: int = 10) -> list[Scored]:
        """The best evaluated molecules with their reported scores: feasible ones first, best first."""
        return best_of(self.calls, count)

    def check(self) -> None:
        """At the end of a search: raises DataError with the oracle's own reason if no molecule has a score."""
        if self.calls and self.failures == len(self.calls):
            raise self._hopeless(len(self.calls), self.calls[-1])

    def close(self) -> None:
        self.ledger.close()
        self.workers.close()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _evaluate(self, smiles: list[str]) -> list[Scored]:
        """New molecules, as many at a time as shall be in the journal before the next are evaluated."""
        results: list[Scored] = []
        while len(results) < len(smiles):
            size = self.workers.portion(self.objective.batch)
            tried = len(self.calls) + len(results)
            if self.failures == tried:
                size = min(size, HOPELESS - tried)
            part = smiles[len(results) : len(results) + size]
            scored = [self._scored(text, answer) for text, answer in zip(part, self.ledger(part))]
            results += scored
            self._count(scored, len(self.calls) + len(results))
        return results

    def _ask(self, smiles: list[str]) -> list[Any]:
        began = time.perf_counter()
        answers = self.workers(self.objective.score, smiles, self.objective.batch, self.objective.isolated)
        self.seconds += time.perf_counter() - began
        return [_row(answer) for answer in answers]

    def _scored(self, smiles: str, answer: dict[str, Any] | None) -> Scored:
        earlier = self.ledger.earlier(smiles)
        self.replayed += earlier
        if answer is None:
            return Scored(smiles, math.nan, reason=self.ledger.reasons[smiles])
        if earlier:
            answer = self._replayed(smiles, answer)
        return Scored.from_json({"smiles": smiles, **answer})

    def _replayed(self, smiles: str, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer of the journal. Raises DataError where it cannot be this objective's."""
        if not self.objective.explains(answer):
            raw = answer.get("raw") if isinstance(answer, dict) else answer
            has = ", ".join(raw) or "no values" if isinstance(raw, dict) else str(raw)[:40]
            raise DataError(
                f"{self.ledger.book.name} holds answers of another objective ({smiles} there has {has}); give another journal."
            )
        mol = chemistry.parse(smiles) if self.judged_again else None
        return answer if mol is None else answer | {"constraints": self.objective.constraints.violations(mol)}

    def _record(self, results: list[Scored], parents: dict[str, str]) -> None:
        reached = False
        for result in results:
            result.call, result.parent = len(self.calls) + 1, parents[result.smiles]
            self.calls.append(result)
            reached |= self.target is not None and result.feasible and result.score >= self.target
            seen = result
            if self.diversity is not None and not self.diversity.admit(result):
                seen = replace(result, score=self.diversity.beyond)
            self._seen[result.smiles] = seen
        if reached:
            raise TargetReached(f"a molecule with a score of {self.target} or more was found.")

    def _count(self, scored: list[Scored], tried: int) -> None:
        self.failures += sum(math.isnan(s.score) for s in scored)
        self.best_score = max([self.best_score, *(s.score for s in scored if s.feasible)])
        if self.bar:
            rate = tried / max(time.monotonic() - self._began, 1e-9)
            best = "no feasible molecule yet" if self.best_score == -math.inf else f"best {self.best_score:.4g}"
            self.bar.advance(len(scored), f"{self.budget - tried} calls left, {best}, {rate:.0f} calls/s")
        if self.failures == tried and tried >= HOPELESS:
            raise self._hopeless(tried, scored[-1])

    def _hopeless(self, tried: int, last: Scored) -> DataError:
        which = "the only molecule" if tried == 1 else f"each of the first {tried} molecules"
        return DataError(
            f"The oracle failed on {which}, so the run stopped; the last failure: {last.reason} ({last.smiles})."
        )


def _row(answer: Scored | Exception) -> dict[str, Any] | Exception | Failed:
    """What the journal keeps of an answer."""
    if isinstance(answer, Exception):
        return answer
    if math.isnan(answer.score):
        return Failed(answer.reason)
    return {k: getattr(answer, k) for k in ("score", "raw", "parts", "constraints")}
