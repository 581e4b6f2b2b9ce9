"""What every search sees of the world, and what it must offer.

A :class:`Search` proposes molecules and pays for them through one door, :meth:`Problem.score`. Everything it decides
follows from its random generator and from the answers, so a run replays exactly when the answers come from a journal:
that is how a run that was killed goes on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from molecules import chemistry
from molecules.objective import Objective, Scored
from reprogram.errors import BudgetSpent, ConfigError
from reprogram.ranges import Checked, Count


class TargetReached(BudgetSpent):
    """An allowed molecule with the wanted score was found; the rest of the budget stays unspent."""


@dataclass
class DiversityFilter:
    """Stops a search from living on one scaffold (REINVENT's IdenticalMurckoScaffold).

    Once ``bucket`` molecules with at least ``min_score`` share a Bemis–Murcko scaffold, further ones count as 0 to the
    search. The reported score is never touched.
    """

    bucket: Count = 25
    min_score: float = 0.4

    def __post_init__(self) -> None:
        if self.bucket < 1:
            raise ConfigError(f"diversity bucket is {self.bucket}; it must be at least 1.")
        self._filled: dict[str, int] = defaultdict(int)

    def admit(self, scored: Scored) -> bool:
        """Count the molecule in its scaffold's bucket; False if the bucket was already full."""
        if math.isnan(scored.score) or scored.score < self.min_score:
            return True
        scaffold = chemistry.scaffold(scored.smiles)
        self._filled[scaffold] += 1
        return self._filled[scaffold] <= self.bucket


class Problem:
    """One start's objective with its budget: counts unique canonical molecules, repeats are free.

    evaluate: canonical SMILES that were not asked before -> :class:`Scored`, in order; by default the objective
        itself, in a design run the journalled ledger around it.
    budget: how many molecules may be paid for. target: stop at the first allowed molecule with this score.
    calls: everything paid for so far, in order.
    """

    def __init__(
        self,
        objective: Objective,
        budget: int,
        evaluate: Callable[[list[str]], list[Scored]] | None = None,
        target: float | None = None,
        diversity: DiversityFilter | None = None,
    ) -> None:
        if budget < 0:
            raise ConfigError(f"budget is {budget}; it must be 0 or more.")
        self.objective, self.budget, self.target, self.diversity = objective, budget, target, diversity
        self._evaluate = evaluate or objective.score
        self._seen: dict[str, Scored] = {}
        self.calls: list[Scored] = []

    @property
    def left(self) -> int:
        """Calls that can still be paid for."""
        return self.budget - len(self.calls)

    def known(self, smiles: str) -> bool:
        """Was this canonical SMILES already paid for?"""
        return smiles in self._seen

    def violations(self, smiles: Sequence[str]) -> np.ndarray:
        """How far canonical SMILES are from the constraints, [N]; free of charge."""
        return self.objective.violations(smiles)

    def score(self, smiles: Sequence[str], parents: Sequence[str] | None = None) -> list[Scored]:
        """Pay for new molecules and answer for all of them, as the search shall see them.

        SMILES that cannot be parsed cost nothing and come back with score NaN. At the limit the molecules that can
        still be paid for are, and :class:`BudgetSpent` is raised; a reached target raises :class:`TargetReached`.
        """
        keys = [chemistry.canonical(text) for text in smiles]
        new: dict[str, str] = {}
        for i, key in enumerate(keys):
            if key is not None and key not in self._seen and key not in new:
                new[key] = parents[i] if parents else ""
        payable = list(new)[: self.left]
        if payable:
            self._book(self._evaluate(payable), new)
        if len(payable) < len(new) or (new and self.left == 0):
            raise BudgetSpent(f"the budget of {self.budget} calls is spent.")
        return [
            Scored(text, math.nan, reason="not a SMILES that RDKit can parse") if key is None else self._seen[key]
            for text, key in zip(smiles, keys)
        ]

    def _book(self, results: list[Scored], parents: dict[str, str]) -> None:
        reached = False
        for result in results:
            result.call, result.parent = len(self.calls) + 1, parents[result.smiles]
            self.calls.append(result)
            reached |= self.target is not None and result.feasible and result.score >= self.target
            full = self.diversity is not None and not self.diversity.admit(result)
            self._seen[result.smiles] = replace(result, score=0.0) if full else result
        if reached:
            raise TargetReached(f"a molecule with a score of {self.target} or more was found.")

    def best(self, count: int = 10) -> list[Scored]:
        """The best paid molecules as they really scored: allowed ones first, best first."""
        return sorted(self.calls, key=lambda s: s.rank, reverse=True)[:count]


class Search(Checked, ABC):
    """Finds molecules for one problem. A dataclass whose fields are its hyper-parameters."""

    group: ClassVar[str] = "search."

    def run(self, problem: Problem, start: Sequence[str], rng: np.random.Generator) -> None:
        """Search from the start molecules until the budget is spent, the target reached or nothing new is found.

        The start molecules are paid for first, in order. Everything found stands in ``problem.calls``.
        """
        try:
            if problem.left == 0:
                return
            scored = [s for s in problem.score(list(start)) if s.call]
            if not scored:
                raise ConfigError("none of the start molecules can be parsed.")
            self.explore(problem, list({s.smiles: s for s in scored}.values()), rng)
        except BudgetSpent:
            return

    @abstractmethod
    def explore(self, problem: Problem, start: list[Scored], rng: np.random.Generator) -> None:
        """Propose, pay, learn, again. Ends by :class:`BudgetSpent` or by returning."""
