"""One search of a design run: objective and budget in, everything that was paid for out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate

from molecules.constraint_config import ConstraintConfig
from molecules.objective import Objective, Scored
from molecules.scoring import Scoring
from molecules.search.base import DiversityFilter, Problem, Search
from molecules.workers import Workers
from reprogram.errors import ConfigError
from reprogram.progress import Bar


@dataclass
class Found:
    """What one ``search`` paid for: ``calls`` in order, from ``starts``, under ``objective``, and what it cost."""

    objective: Objective
    starts: list[str]
    calls: list[Scored]
    budget: int
    search: Search
    notes: list[str] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)


def explore(config: dict[str, Any], starts: list[str], journal: Path, bar: Bar | None = None, number: int = 0) -> Found:
    """One search from ``starts``; ``number`` gives each of several searches its own random numbers."""
    began = time.monotonic()
    objective = build_objective(config, starts)
    search: Search = instantiate(config["search"], _convert_="all")
    workers: Workers = instantiate(config["parallel"])
    diversity = DiversityFilter(**config["diversity"]) if config["diversity"]["bucket"] else None
    scoring = Scoring(objective, workers, config["budget"], journal)
    scoring.bar = bar
    problem = Problem(objective, config["budget"], scoring, config["stop_at"], diversity)
    notes = foresee(objective, starts, config["budget"])
    try:
        search.run(problem, starts, np.random.default_rng([config["seed"], 1 + number]))
    finally:
        scoring.close()
    seconds = time.monotonic() - began
    cost = {
        "seconds": seconds,
        "oracle_seconds": scoring.seconds,
        "calls_per_second": len(problem.calls) / max(seconds, 1e-9),
        "calls_from_journal": min(scoring.replayed, len(problem.calls)),
    }
    return Found(objective, starts, problem.calls, config["budget"], search, notes + judge(problem, starts), cost)


def build_objective(config: dict[str, Any], starts: list[str]) -> Objective:
    """``objective`` where it is given, else the single ``oracle``; with the constraints of these start molecules."""
    limits: ConstraintConfig = instantiate(config["constraints"], _convert_="all")
    constraints = limits.constraints(starts)
    if config.get("objective") is not None:
        objective: Objective = instantiate(config["objective"], _convert_="all")
        return replace(objective, constraints=constraints)  # Hydra would turn the dataclass into a plain dict
    if config.get("oracle") is None:
        raise ConfigError("'oracle' must be given, as in oracle=zaleplon_mpo (or objective=… for several at once).")
    return Objective.of(instantiate(config["oracle"], _convert_="all"), constraints)


def foresee(objective: Objective, starts: list[str], budget: int) -> list[str]:
    """What can be said before the first call is paid."""
    notes = []
    outside = [s for s, v in zip(starts, objective.violations(starts)) if v > 0]
    if outside:
        few = ", ".join(outside[:3]) + (", …" if len(outside) > 3 else "")
        notes.append(f"{len(outside)} of {len(starts)} start molecules do not satisfy the constraints: {few}.")
    if 0 < budget < len(starts):
        notes.append(f"budget={budget} pays for the first {budget} of {len(starts)} start molecules and nothing else.")
    if budget == 0:
        notes.append(f"budget=0: {len(starts)} start molecules and the constraints were read, nothing was scored.")
    return notes


def judge(problem: Problem, starts: list[str]) -> list[str]:
    """What is to be said about how the search ended."""
    notes = []
    if problem.target is not None and problem.calls:
        reached = [s for s in problem.calls if s.feasible and s.score >= problem.target]
        if reached and reached[0].smiles in set(starts):
            notes.append(
                f"The start molecule {reached[0].smiles} already satisfies everything, so nothing was searched."
            )
        elif not reached:
            notes.append(f"No allowed molecule reached stop_at={problem.target:g}.")
    if problem.left > 0 and (problem.target is None or not any(s.feasible for s in problem.calls)):
        notes.append(f"The search ended with {problem.left} calls unspent: it found nothing new.")
    failed = [s for s in problem.calls if s.reason]
    if failed:
        notes.append(
            f"{len(failed)} of {len(problem.calls)} molecules have no score; the first: {failed[0].smiles} "
            f"({failed[0].reason})."
        )
    return notes
