"""Design molecules from Python in one call: the same run as ``task=design``, without a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from molecules.constraints.base import Constraint, Constraints
from molecules.constraints.config import ConstraintConfig
from molecules.evaluator import Evaluator
from molecules.objective import Objective
from molecules.oracles.base import Oracle
from molecules.oracles.function import Function
from molecules.run_search import Found, run
from molecules.search.base import Search
from molecules.starts import ENDINGS, File, Given, Starts
from molecules.workers import Workers
from reprogram.configuration import load
from reprogram.errors import ConfigError


def design(
    objective: Objective | Oracle | Callable[[str], float] | str,
    start: Sequence[str] | str | Path | None = None,
    budget: int = 1000,
    *,
    constraints: Constraints | ConstraintConfig | Sequence[Constraint] | Mapping[str, Any] | str = "plausible",
    search: Search | str = "surrogate",
    seed: int = 0,
    stop_at: float | None = None,
    journal: str | Path | None = None,
) -> Found:
    """Search for the molecules with the largest objective, with at most ``budget`` calls of its oracles.

    objective: an :class:`~molecules.objective.Objective`, an oracle, a function of one canonical SMILES, or the name of
    an oracle (``qed``, ``zaleplon_mpo``, one that another package declares). Oracles whose ``direction`` is ``min`` are
    made small. start: SMILES, or a ``.smi``, ``.csv``, ``.tsv`` or ``.sdf`` file; ``search="routes"`` needs none.
    constraints: options as on the command
    line, on top of what a chemist would make (``{"similarity": 0.4}``), the name of a file of ``conf/constraints`` (``none``:
    whatever RDKit reads), or constraints; an ``Objective`` that has some keeps them. search: a method or its name. seed: fixes
    everything random. stop_at: end at the first feasible molecule with this score. journal: a file that keeps every
    answer; with it, a run that was interrupted continues without a call twice.

    Returns what was found: ``found.best(10)`` are the best molecules, feasible ones first; ``found.calls`` are all, in
    order; ``found.notes`` say what was dropped or changed. Raises ConfigError or DataError in one sentence.
    """
    starts = _read(start, seed)
    goal = load_objective(objective)
    if constraints != "plausible" or not goal.constraints.items:
        goal = replace(goal, constraints=_constraints(constraints, starts.smiles))
    method = load_search(search) if isinstance(search, str) else search
    file = None if journal is None else Path(journal)
    with Evaluator(goal, budget, target=stop_at, workers=Workers("serial"), journal=file) as evaluator:
        found = run(method, evaluator, starts.smiles, [seed, 1])
    found.notes = starts.notes + found.notes
    return found


def load_objective(objective: Objective | Oracle | Callable[[str], float] | str) -> Objective:
    """An objective from whatever a user has in hand; see :func:`design`."""
    if isinstance(objective, Objective):
        return objective
    if isinstance(objective, str):
        return Objective.of(load_oracle(objective))
    if isinstance(objective, Oracle):
        return Objective.of(objective)
    if callable(objective):
        return Objective.of(Function(objective))
    raise ConfigError(f"objective is {objective!r:.80}; give an oracle, its name, or a function of one SMILES.")


def load_oracle(name: str, /, **options: Any) -> Oracle:
    """The oracle of ``oracle=NAME``, with options as on the command line. Raises ConfigError."""
    oracle: Oracle = load("oracle", name, **options)
    return oracle


def load_search(name: str, /, **options: Any) -> Search:
    """The search of ``search=NAME``, with options as on the command line. Raises ConfigError."""
    search: Search = load("search", name, **options)
    return search


def _read(start: Sequence[str] | str | Path | None, seed: int) -> Starts:
    rng = np.random.default_rng([seed, 0])
    if start is None:
        return Starts([])
    if not isinstance(start, str | Path):
        return Given(list(start)).read(rng)
    if Path(start).suffix in ENDINGS and Path(start).expanduser().is_file():
        return File(str(start)).read(rng)
    if isinstance(start, Path):
        raise ConfigError(f"start={start} is not a file of start molecules; allowed: {', '.join(ENDINGS)}.")
    return Given([start]).read(rng)


def _constraints(
    given: Constraints | ConstraintConfig | Sequence[Constraint] | Mapping[str, Any] | str, starts: list[str]
) -> Constraints:
    if isinstance(given, Constraints):
        return given
    if isinstance(given, str):
        named: ConstraintConfig = load("constraints", given)
        return named.constraints(starts)
    if isinstance(given, Sequence):
        return Constraints([item for item in given if not isinstance(item, str)])
    config: ConstraintConfig = load("constraints", "plausible", **given) if isinstance(given, Mapping) else given
    return config.constraints(starts)
