"""The recipe of a design run: start molecules, objective and search in; the best molecules, with reasons, out."""

from __future__ import annotations

from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from molecules import recipe, report
from molecules.run_search import build_objective, explore, notes_before, stereo_note, unused_oracle
from molecules.search.base import Search
from molecules.starts import Starts
from molecules.tasks import per_start, stages
from reprogram.artifact import save_pretrained
from reprogram.errors import ConfigError
from reprogram.hooks import Run
from reprogram.model import ReprogrammedModel
from reprogram.progress import console, progress
from reprogram.ranges import Amount, Count
from reprogram.tasks._run import start

OPTIONS: dict[str, Any] = {
    "budget": Amount,
    "stop_at": float | None,
    "per_start": bool,
    "stages": list,
    "diversity.bucket": Count | None,
    "diversity.min_score": float,
}


def run(config: DictConfig) -> float | None:
    """One run, top to bottom. Returns the best feasible score for sweeps."""
    context = start(config)
    starts: Starts = instantiate(config.start, _convert_="all").read(np.random.default_rng([config.seed, 0]))
    if config.budget == 0:
        check(context, starts)
        return None
    recipe.hold(context, starts.smiles)
    if config.per_start and config.stages:
        raise ConfigError("per_start=true makes each start a search of its own; it has no stages.")
    if config.stages:
        return stages.run_all(context, starts)
    if config.per_start:
        return per_start.run_all(context, starts)
    with progress("designing", config.budget) as bar:
        found = explore(context.config, starts.smiles, context.dir / "calls.jsonl", bar)
    found.notes = starts.notes + found.notes
    program: ReprogrammedModel | None = getattr(found.search, "program", None)  # what a reprogrammed generator learned
    if program is not None:
        save_pretrained(program, context.dir / "program")
    verdict = report.write(context, found)
    console.print(f"{verdict}\nresults in {context.dir}", soft_wrap=True)
    return max((s.score for s in found.calls if s.feasible), default=None)


def check(context: Run, starts: Starts) -> None:
    """``budget=0``: reads the input, builds everything and prints the notes. The run folder stays free for the run."""
    objective = build_objective(context.config, starts.smiles)
    method: Search = instantiate(context.config["search"], _convert_="all")
    notes = starts.notes + notes_before(objective, starts.smiles, 0) + stereo_note(method, starts.smiles)
    for note in notes + unused_oracle(context.config):
        console.print(note, soft_wrap=True, markup=False)
