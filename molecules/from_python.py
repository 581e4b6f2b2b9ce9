"""Design molecules from Python in one call: the same run as ``task=design``, without a run folder."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem

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
    start: Iterable[Any] | str | Path | None = None,
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
    made small. start: SMILES or RDKit molecules, or a ``.smi``, ``.csv``, ``.tsv`` or ``.sdf`` file; ``search="routes"`` needs
    none. constraints: options as on the command line, on top of what a chemist would make (``{"similarity": 0.4}``), the name
    of a file of ``conf/constraints`` (``none``: whatever RDKit reads), or constraints; an ``Objective`` that has some keeps
    them. search: a method or its name. seed: fixes everything random. stop_at: end at the first feasible molecule with this
    score. journal: a file that keeps every answer; with it, a run that was interrupted continues without a call twice.

    Returns what was found: ``found.best(10)`` are the best molecules, feasible ones first; ``found.calls`` are all, in
    order; ``found.notes`` say what was dropped or changed. Raises ConfigError or DataError in one sentence.
    """
    _check_numbers(budget, seed, stop_at)
    starts = _read(start, seed)
    goal = load_objective(objective)
    if constraints != "plausible" or not goal.constraints.items:
        goal = replace(goal, constraints=_constraints(constraints, starts.smiles))
    method = load_search(search) if isinstance(search, str) else search
    if not isinstance(method, Search):
        raise ConfigError(f"search is {search!r:.80}; give a method or its name, as in search='genetic'.")
    file = None if journal is None else Path(journal)
    options: dict[str, Any] = {"journal": file, "judged_again": True}  # no recipe is kept here that could hold the constraints
    with Evaluator(goal, int(budget), target=stop_at, workers=Workers("serial"), **options) as evaluator:
        found = run(method, evaluator, starts.smiles, [int(seed), 1])
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


def _check_numbers(budget: Any, seed: Any, stop_at: Any) -> None:
    if isinstance(budget, bool) or not isinstance(budget, Integral):
        raise ConfigError(f"budget is {budget!r:.80}; it must be a whole number of 0 or more.")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ConfigError(f"seed is {seed!r:.80}; it must be a whole number of 0 or more.")
    if stop_at is not None and (not isinstance(stop_at, Real) or not math.isfinite(stop_at)):
        raise ConfigError(f"stop_at is {stop_at!r:.80}; it must be a number, or None.")


def _read(start: Iterable[Any] | str | Path | None, seed: int) -> Starts:
    rng = np.random.default_rng([seed, 0])
    if start is None:
        return Starts([])
    if isinstance(start, str | Path):
        named = Path(start).suffix.lower() in ENDINGS
        if named and Path(start).expanduser().is_file():
            return File(str(start)).read(rng)
        if named or isinstance(start, Path) or os.path.isfile(start):
            raise ConfigError(f"start={start} is not a file of start molecules; allowed: {', '.join(ENDINGS)}.")
        return Given([start]).read(rng)
    if hasattr(start, "columns"):
        raise ConfigError("start is a table; give its column of SMILES, as in start=table['smiles'].")
    if isinstance(start, Chem.Mol) or not isinstance(start, Iterable):
        start = [start]
    return Given([_text(item) for item in start]).read(rng)


def _text(item: Any) -> str:
    """A start molecule as SMILES; "" for an empty cell of a table."""
    if isinstance(item, Chem.Mol):
        return Chem.MolToSmiles(item)
    return "" if str(item) in ("None", "nan", "<NA>", "NaT") else str(item)


def _constraints(
    given: Constraints | ConstraintConfig | Sequence[Constraint] | Mapping[str, Any] | str, starts: list[str]
) -> Constraints:
    if isinstance(given, Constraints):
        return given
    if isinstance(given, str):
        named: ConstraintConfig = load("constraints", given)
        return named.constraints(starts)
    if isinstance(given, Mapping):
        options: ConstraintConfig = load("constraints", "plausible", **given)
        return options.constraints(starts)
    if isinstance(given, ConstraintConfig):
        return given.constraints(starts)
    items = list(given) if isinstance(given, Iterable) else [given]
    wrong = [item for item in items if not isinstance(item, Constraint)]
    if wrong:
        raise ConfigError(
            f"constraints holds {wrong[0]!r:.80}; give options such as {{'similarity': 0.4}}, the name of a file of "
            "conf/constraints ('none' for no constraint), or a list of Constraint objects."
        )
    return Constraints(items)
