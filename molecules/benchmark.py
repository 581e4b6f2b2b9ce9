"""Published benchmarks: PMO runs from its start molecules, and improving one molecule while staying similar to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molecules import chemistry
from molecules.auc import auc_top, top_mean
from molecules.constraints import Alerts, Constraint, Constraints, Plausible, Unstable
from molecules.evaluator import Evaluator
from molecules.objective import Objective, Scored, best_of
from molecules.oracles.base import Oracle
from molecules.oracles.pmo import pmo
from molecules.routes.route import replay
from molecules.search.base import Search
from molecules.starts import sample_zinc
from reprogram.errors import DataError

PMO_BUDGET = 10_000  # calls of the full protocol; a run that stops earlier keeps its last value, as PMO defines it
MARKS = (500, 1_000, 2_000, 3_000, 5_000, 10_000)  # calls after which a cell can be told


def zinc_start(count: int, seed: int) -> list[str]:
    """The start molecules of a run with this seed: see :func:`molecules.starts.sample_zinc`."""
    return sample_zinc(count, np.random.default_rng(seed))


class Watched(Evaluator):
    """An evaluator that says when a number of calls is passed: ``passed(n)`` once for each of ``marks``, in order."""

    def __init__(self, objective: Objective, budget: int, marks: Sequence[int], passed: Callable[[int], None]) -> None:
        super().__init__(objective, budget)
        self._marks, self._passed = sorted(marks), passed

    def score(self, smiles: Sequence[str], parents: Sequence[str] | None = None) -> list[Scored]:
        try:
            return super().score(smiles, parents)
        finally:
            while self._marks and len(self.calls) >= self._marks[0]:
                self._passed(self._marks.pop(0))


def run_pmo(
    task: str,
    search: Search,
    calls: int,
    seed: int,
    plausible: bool = False,
    marked: Callable[[dict[str, Any]], None] | None = None,
    marks: Sequence[int] = MARKS,
) -> dict[str, Any]:
    """One cell of the PMO table: AUC top-10 over 10,000 calls of which ``calls`` are spent, and what it cost.

    plausible: only molecules that can exist and hold no unstable group are evaluated. marked: is given the cell of the calls
    so far each time that the run passes one of ``marks``, so that a run that is cut short still counts.
    """
    constraints = plausibility() if plausible else Constraints()

    def cell(count: int) -> dict[str, Any]:
        return pmo_cell(search, evaluator.calls[:count], time.process_time() - cpu, replays) | labels

    def passed(mark: int) -> None:
        if marked is not None and mark < calls:
            marked(cell(mark))

    replays: dict[str, bool] = {}
    labels = {"task": task, "seed": seed, "plausible": plausible, "budget": calls}
    evaluator = Watched(Objective.of(pmo(task), constraints), calls, marks, passed)
    start = zinc_start(100, seed)
    cpu = time.process_time()
    search.run(evaluator, start, np.random.default_rng(seed))
    return cell(len(evaluator.calls))


def plausibility() -> Constraints:
    """What ``run_pmo(plausible=True)`` asks of every molecule."""
    return Constraints([Plausible(), Unstable()])


def pmo_cell(search: Search, calls: Sequence[Scored], seconds: float, replays: dict[str, bool]) -> dict[str, Any]:
    """The figures of a run's first ``calls``, for which it took ``seconds`` of one core; replays: as in :func:`replayed`."""
    scores = [s.score if s.feasible else 0.0 for s in calls]
    best = best_of(calls, 100)
    alerts, rules = Alerts(), plausibility()
    mols = [chemistry.parse(s.smiles) for s in best]
    return {
        "calls": len(scores),
        "auc_top10": auc_top(scores, 10, PMO_BUDGET),
        "auc_top10_spent": auc_top(scores, 10, len(scores)),
        "top10": top_mean(scores, 10),
        "top10_at": {str(n): top_mean(scores[:n], 10) for n in MARKS if n <= len(scores)},
        "no_alert": float(np.mean([m is not None and alerts.violation(m) == 0 for m in mols])),
        "is_plausible": float(np.mean([m is not None and rules.total(m) == 0 for m in mols])),
        "best": best[0].smiles,
        "replayed": replayed(search, calls, replays),
        "cpu_seconds": seconds,
    }


def replayed(search: Search, calls: Sequence[Scored], known: dict[str, bool]) -> int | None:
    """How many molecules came with a route that replays and makes them; None for a search without routes. known: what was
    replayed before, by route."""
    routes = [search.told(s.smiles).get("route") for s in calls]
    if not any(routes):
        return None
    for scored, route in zip(calls, routes):
        if route is not None and route not in known:
            try:
                known[route] = replay(route) == scored.smiles
            except DataError:
                known[route] = False
    return sum(route is not None and known[route] for route in routes)


@dataclass
class Improved:
    """What became of one start molecule: the best feasible molecule, the calls spent, and how much was gained."""

    start: str
    best: Scored | None
    calls: int
    gain: float
    seconds: float


def improve(
    start: str,
    oracle: Oracle,
    search: Search,
    conditions: Sequence[Constraint],
    budget: int,
    seed: int,
    target: float | None = None,
) -> Improved:
    """Raise an oracle under ``conditions``, such as staying similar to the start (Jin et al. 2019)."""
    evaluator = Evaluator(Objective.of(oracle, Constraints(conditions)), budget, target=target)
    began = time.process_time()
    search.run(evaluator, [start], np.random.default_rng(seed))
    found = [s for s in evaluator.best(1) if s.feasible]
    own = evaluator.calls[0].score if evaluator.calls else float("nan")
    gain = found[0].score - own if found else 0.0
    return Improved(start, found[0] if found else None, len(evaluator.calls), gain, time.process_time() - began)
