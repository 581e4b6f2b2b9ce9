"""Stages of a design run (``stages=[…]``): one search after the other, each with its own objective, budget and end.

Each stage begins with the best molecules of the one before and with the start molecules. ``stages/2.jsonl`` is the journal of
stage 2, so a run that was killed pays for nothing twice, whichever stage it was in.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from molecules import report
from molecules.counting import counted
from molecules.objective import Objective
from molecules.run_search import Found, build_constraints, build_objective, search
from molecules.starts import Starts
from molecules.tasks._journals import merge_journals
from reprogram.configuration import load
from reprogram.errors import ConfigError, nearest
from reprogram.hooks import Run
from reprogram.progress import console, progress

CARRIED = 50  # best molecules that the next stage begins with
KEYS = ("oracle", "objective", "constraints", "search", "budget", "stop_at")
MADE = ("oracle", "objective", "constraints", "search")  # by the name of an option file


def run_all(run: Run, starts: Starts) -> float | None:
    """Every stage in turn; the files are those of the last. Returns its best feasible score."""
    stages = [checked(number, stage) for number, stage in enumerate(run.config["stages"], 1)]
    begun, told, found = list(starts.smiles), list[dict[str, Any]](), None
    for number, stage in enumerate(stages, 1):
        config = run.config | {key: stage[key] for key in ("budget", "stop_at") if key in stage}
        if "search" in stage:
            config["search"] = load("search", stage["search"])
        objective = objective_of(config, stage, starts.smiles)  # similarity is to the user's molecules in every stage
        journal = journal_of(run.dir, number)
        with progress(f"stage {number} of {len(stages)}", config["budget"]) as bar:
            found = search(config, objective, begun, journal, [config["seed"], 1 + number], bar)
        told.append(outcome(number, found, config["stop_at"]))
        best = [s.smiles for s in found.best(CARRIED) if s.feasible]
        begun = list(dict.fromkeys([*best, *starts.smiles]))
    assert found is not None  # stages is not empty
    merge_journals(run.dir, "stage", [journal_of(run.dir, number) for number in range(1, len(stages) + 1)])
    run.result.data["stages"] = told
    found.notes = [*starts.notes, *(entry["note"] for entry in told), *found.notes]
    verdict = report.write(run, found)
    console.print(f"{verdict}\nresults in {run.dir}", soft_wrap=True)
    return max((s.score for s in found.calls if s.feasible), default=None)


def journal_of(folder: Path, number: int) -> Path:
    """Where a stage writes down what it paid for."""
    return folder / "stages" / f"{number}.jsonl"


def checked(number: int, stage: Any) -> dict[str, Any]:
    """A stage as it can be run. Raises ConfigError with the key."""
    if not isinstance(stage, dict):
        raise ConfigError(f"stages[{number}] is {stage!r}; it must be like {{oracle: qed, budget: 200, stop_at: 0.9}}.")
    for key, value in stage.items():
        if key not in KEYS:
            raise ConfigError(f"There is no option 'stages[{number}].{key}'; {nearest(str(key), KEYS)}.")
        if key in MADE and not isinstance(value, str):
            raise ConfigError(f"stages[{number}].{key} is {value!r}; it must be the name of an option, as in {key}=NAME.")
    budget, stop_at = stage.get("budget", 1), stage.get("stop_at")
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise ConfigError(f"stages[{number}].budget is {budget!r}; it must be a whole number of at least 1.")
    if stop_at is not None and (isinstance(stop_at, bool) or not isinstance(stop_at, int | float)):
        raise ConfigError(f"stages[{number}].stop_at is {stop_at!r}; it must be a number.")
    return stage


def objective_of(config: dict[str, Any], stage: dict[str, Any], starts: list[str]) -> Objective:
    """The stage's own objective or oracle and constraints; those of the run where it names none."""
    if "objective" in stage:
        objective: Objective = load("objective", stage["objective"])
    elif "oracle" in stage:
        objective = Objective.of(load("oracle", stage["oracle"]))
    else:
        objective = build_objective(config, starts)
    if "constraints" in stage:
        return replace(objective, constraints=load("constraints", stage["constraints"]).constraints(starts))
    own = "objective" in stage or "oracle" in stage
    return replace(objective, constraints=build_constraints(config, starts)) if own else objective


def outcome(number: int, found: Found, stop_at: float | None) -> dict[str, Any]:
    """What became of a stage, for ``result.json`` and the notes."""
    best = next((s.score for s in found.best(1) if s.feasible), None)
    reached = stop_at is not None and best is not None and best >= stop_at
    shown = "no feasible molecule" if best is None else f"best feasible score {best:.3f}"
    how = f", which ended it at stop_at={stop_at:g}" if reached else ""
    note = f"Stage {number} ({found.objective.name}): {shown} after {counted(len(found.calls), 'call')}{how}."
    return {
        "objective": found.objective.name, "budget": found.budget, "calls": len(found.calls), "best_score": best,
        "reached": reached, "note": note,
    }  # fmt: skip
