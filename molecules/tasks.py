"""The recipe of a design run: start molecules, objective and search in; the best molecules, with reasons, out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from molecules import per_start, report
from molecules.run_search import explore
from molecules.starts import Starts
from reprogram.artifact import save_pretrained
from reprogram.errors import ConfigError
from reprogram.hooks import Run
from reprogram.locks import own_file
from reprogram.model import ReprogrammedModel
from reprogram.progress import console, progress
from reprogram.ranges import Amount, Count
from reprogram.result import finite, write_atomically
from reprogram.tasks._run import start

RECIPE = ("seed", "oracle", "objective", "constraints", "search", "space", "start", "stop_at", "per_start", "diversity")


OPTIONS: dict[str, Any] = {
    "budget": Amount,
    "stop_at": float | None,
    "per_start": bool,
    "diversity.bucket": Count | None,
    "diversity.min_score": float,
}


def design(config: DictConfig) -> float | None:
    """One run, top to bottom. Returns the best allowed score for sweeps."""
    run = start(config)
    starts: Starts = instantiate(config.start, _convert_="all").read(np.random.default_rng([config.seed, 0]))
    hold_recipe(run, starts.smiles)
    if config.per_start:
        return per_start.run_all(run, starts)
    with progress("designing", config.budget) as bar:
        found = explore(run.config, starts.smiles, run.dir / "calls.jsonl", bar)
    found.notes = starts.notes + found.notes
    program: ReprogrammedModel | None = getattr(found.search, "program", None)  # what a reprogrammed generator learned
    if program is not None:
        save_pretrained(program, run.dir / "program")
    verdict = report.write(run, found)
    console.print(f"{verdict}\nresults in {run.dir}", soft_wrap=True)
    return max((s.score for s in found.calls if s.feasible), default=None)


def hold_recipe(run: Run, starts: list[str]) -> None:
    """Write down what a run is made of, or compare: a resumed run must be the same run (budget may grow)."""
    path = run.dir / "recipe.json"
    recipe = json.loads(json.dumps(finite({key: run.config.get(key) for key in RECIPE} | {"start_molecules": starts})))
    if not run.resume:
        if (run.dir / "calls.jsonl").exists() or (run.dir / "starts").exists():
            raise ConfigError(
                f"run_dir={run.dir} holds the calls of a run that did not end; go on with resume=true, or remove it."
            )
        write_atomically(path, json.dumps(recipe, indent=1) + "\n")
        return
    if not path.exists():
        raise ConfigError(f"resume=true, but run_dir={run.dir} holds no design run.")
    try:
        before = json.loads(path.read_text()) if own_file(path) else {}
        changed = [key for key in recipe if recipe[key] != before.get(key)]
    except (ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged, so nobody can tell whether this is the same run; remove it.") from error
    if changed:
        key = changed[0]
        shown = "are other molecules" if key == "start_molecules" else f"was {before.get(key)} and is {recipe[key]}"
        raise ConfigError(f"resume=true goes on with the same run, but {key} {shown}.")
