"""One search of a design run: an objective and a budget in, everything that was evaluated out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_object, instantiate

from molecules.chemistry import parse
from molecules.constraints.base import Constraints
from molecules.constraints.config import ConstraintConfig
from molecules.counting import counted
from molecules.evaluator import DiversityFilter, Evaluator
from molecules.objective import Objective, Scored, best_of
from molecules.search.base import Search
from reprogram.errors import ConfigError
from reprogram.progress import Bar

ROUTE_TWICE = "constraints.route was left out: this search gives every molecule a route, of at most space.steps reactions."


@dataclass
class Found:
    """What one ``search`` evaluated: ``calls`` in order, from ``starts``, under ``objective``, and what it cost."""

    objective: Objective
    starts: list[str]
    calls: list[Scored]
    budget: int
    search: Search | None
    notes: list[str] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)

    def best(self, count: int = 10) -> list[Scored]:
        """The best molecules, feasible ones first, best first."""
        return best_of(self.calls, count)


def explore(config: dict[str, Any], starts: list[str], journal: Path, bar: Bar | None = None, number: int = 0) -> Found:
    """One search from ``starts``; ``number`` gives each of several searches its own random numbers."""
    found = search(config, build_objective(config, starts), starts, journal, [config["seed"], 1 + number], bar)
    found.notes += unused_oracle(config)
    return found


def search(
    config: dict[str, Any],
    objective: Objective,
    starts: list[str],
    journal: Path,
    seeds: Sequence[int],
    bar: Bar | None = None,
) -> Found:
    """The search of ``config`` (``search``, ``parallel``, ``budget``, ``stop_at``, ``diversity``) for an objective.

    Raises DataError where the oracle failed on every molecule.
    """
    chosen = config["search"]
    method: Search = chosen if isinstance(chosen, Search) else instantiate(chosen, _convert_="all")
    diversity = DiversityFilter(**config["diversity"]) if config["diversity"]["bucket"] else None
    options: dict[str, Any] = {"target": config["stop_at"], "diversity": diversity, "journal": journal}
    with Evaluator(objective, config["budget"], workers=instantiate(config["parallel"]), **options) as evaluator:
        evaluator.bar = bar
        found = run(method, evaluator, starts, seeds)
    found.notes += [ROUTE_TWICE] if route_twice(config) else []
    return found


def run(method: Search, evaluator: Evaluator, starts: list[str], seeds: Sequence[int]) -> Found:
    """One search for one evaluator. Raises DataError where the oracle failed on every molecule."""
    began = time.monotonic()
    objective, budget = evaluator.objective, evaluator.budget
    notes = notes_before(objective, starts, budget) + stereo_note(method, starts)
    method.run(evaluator, starts, np.random.default_rng(list(seeds)))
    evaluator.check()
    for scored in evaluator.calls:
        scored.told = method.told(scored.smiles)
    cost = evaluator.cost(time.monotonic() - began)
    notes += [*method.notes, *notes_after(evaluator, starts)]
    return Found(objective, starts, evaluator.calls, budget, method, notes, cost)


def build_objective(config: dict[str, Any], starts: list[str]) -> Objective:
    """``objective`` where it is given, else the single ``oracle``; with the constraints of these start molecules."""
    constraints = build_constraints(config, starts)
    if config.get("objective") is not None:
        objective: Objective = instantiate(config["objective"], _convert_="all")
        return replace(objective, constraints=constraints)  # Hydra would turn the dataclass into a plain dict
    if config.get("oracle") is None:
        raise ConfigError("'oracle' must be given, as in oracle=zaleplon_mpo (or objective=… for several at once).")
    return Objective.of(instantiate(config["oracle"], _convert_="all"), constraints)


def unused_oracle(config: dict[str, Any]) -> list[str]:
    """A note where ``oracle`` is given beside the ``objective`` that takes its place."""
    both = config.get("objective") is not None and config.get("oracle") is not None
    return ["objective= is maximised; oracle= is not used, because it was given beside it."] if both else []


def build_constraints(config: dict[str, Any], starts: list[str]) -> Constraints:
    """The constraints of the configuration for these start molecules. A search that gives every molecule a route is not asked
    for another one."""
    options: ConstraintConfig = instantiate(config["constraints"], _convert_="all")
    return (replace(options, route=False) if route_twice(config) else options).constraints(starts)


def route_twice(config: dict[str, Any]) -> bool:
    """Does ``constraints.route`` ask for what the search gives anyway?"""
    chosen = config.get("search")
    kind = chosen if isinstance(chosen, Search) else get_object(chosen["_target_"]) if chosen else None
    return bool(getattr(kind, "gives_routes", False) and config["constraints"]["route"])


def notes_before(objective: Objective, starts: list[str], budget: int) -> list[str]:
    """What the report says about the start molecules and the budget."""
    notes = []
    outside = [s for s, v in zip(starts, objective.violations(starts)) if v > 0]
    if outside:
        few = ", ".join(f"{s} ({_why(objective, s)})" for s in outside[:3]) + (", …" if len(outside) > 3 else "")
        verb = "does" if len(outside) == 1 else "do"
        notes.append(f"{len(outside)} of {len(starts)} start molecules {verb} not satisfy the constraints: {few}.")
    if budget == 0:
        notes.append(f"budget=0: {counted(len(starts), 'start molecule')} and the constraints were read, nothing was scored.")
    return notes


def stereo_note(method: Search, starts: list[str]) -> list[str]:
    """What becomes of stereo marks, where the start molecules have some and the search makes flat molecules."""
    marked = sum(any(mark in smiles for mark in "@/\\") for smiles in starts)
    if not marked or not method.flat:
        return []
    verb = "has" if marked == 1 else "have"
    return [
        f"{marked} of {counted(len(starts), 'start molecule')} {verb} stereo marks, which this search drops; search.stereo=keep "
        "keeps what an edit leaves alone, search.stereo=vary also tries other configurations."
    ]


def _why(objective: Objective, smiles: str) -> str:
    mol = parse(smiles)
    reasons = [] if mol is None else objective.constraints.reasons(mol)
    return "; ".join(reasons[:2]) + (f" and {len(reasons) - 2} more" if len(reasons) > 2 else "")


def notes_after(evaluator: Evaluator, starts: list[str]) -> list[str]:
    """What the report says about how the search ended."""
    notes = []
    calls, target = evaluator.calls, evaluator.target
    if target is not None and calls:
        reached = [s for s in calls if s.feasible and s.score >= target]
        if reached and reached[0].smiles in set(starts):
            notes.append(
                f"The start molecule {reached[0].smiles} already satisfies everything, so nothing was searched."
            )
        elif not reached:
            notes.append(f"No feasible molecule reached stop_at={target:g}.")
    spent = len(calls)
    if 0 < spent == evaluator.budget < len(starts) and [s.smiles for s in calls] == starts[:spent]:
        notes.append(f"budget={spent} evaluates the first {spent} of {len(starts)} start molecules and nothing else.")
    if evaluator.left > 0 and (target is None or not any(s.feasible for s in calls)):
        notes.append(f"The search ended with {counted(evaluator.left, 'call')} of the budget unused: it found nothing new.")
    failed = [s for s in calls if s.reason]
    if failed:
        verb = "has" if len(failed) == 1 else "have"
        notes.append(
            f"{len(failed)} of {counted(len(calls), 'molecule')} {verb} no score; the first: {failed[0].smiles} "
            f"({failed[0].reason})."
        )
    return notes
