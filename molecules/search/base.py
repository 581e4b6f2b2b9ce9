"""The interface of every search.

A :class:`Search` proposes molecules and has them evaluated by an :class:`~molecules.evaluator.Evaluator`. All its
decisions follow from its random generator and from the scores, so a run repeats exactly when the scores come from a
journal. That is how a run that was killed continues.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from molecules.evaluator import Evaluator
from molecules.objective import Scored
from reprogram.errors import BudgetSpent, ConfigError
from reprogram.ranges import Checked


class Search(Checked, ABC):
    """Finds molecules for one evaluator. A dataclass whose fields are its hyper-parameters."""

    group: ClassVar[str] = "search."
    gives_routes: ClassVar[bool] = False  # does every molecule that it evaluates come with a route?
    notes: Sequence[str] = ()  # what the report says about the search itself

    @property
    def flat(self) -> bool:
        """Do its molecules have no stereo marks, whatever the start molecules have?"""
        return getattr(self, "stereo", "") == "drop"

    def run(self, evaluator: Evaluator, start: Sequence[str], rng: np.random.Generator) -> None:
        """Search from the start molecules until the budget is spent, the target reached or nothing new is found.

        The start molecules are evaluated first, in order. Everything that was evaluated is in ``evaluator.calls``.
        """
        try:
            if evaluator.left == 0:
                return
            scored = [s for s in evaluator.score(self.first(evaluator, start, rng)) if s.call]
            if not scored and not start:
                raise ConfigError("start must be given: this search begins from start molecules.")
            if not scored:
                raise ConfigError("none of the start molecules can be parsed.")
            self.explore(evaluator, list({s.smiles: s for s in scored}.values()), rng)
        except BudgetSpent:
            return

    def first(self, evaluator: Evaluator, start: Sequence[str], rng: np.random.Generator) -> list[str]:
        """What is evaluated first: the start molecules, unless a search knows better."""
        return list(start)

    def told(self, smiles: str) -> dict[str, str]:
        """What the search knows of an evaluated molecule: columns of the tables, by name."""
        return {}

    @abstractmethod
    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        """Propose, evaluate, learn, again. Ends by :class:`BudgetSpent` or by returning."""
