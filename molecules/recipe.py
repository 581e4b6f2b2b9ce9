"""What a design run is made of, written beside its calls: a resumed run must be the same run (its budget may grow)."""

from __future__ import annotations

import json

from reprogram.errors import ConfigError
from reprogram.hooks import Run
from reprogram.locks import own_file
from reprogram.result import finite, write_atomically

RECIPE = ("seed", "oracle", "objective", "constraints", "search", "space", "start", "stop_at", "per_start", "stages", "diversity")


def hold(run: Run, starts: list[str]) -> None:
    """Write the recipe of a new run, or compare it with that of the run that is resumed."""
    path = run.dir / "recipe.json"
    recipe = json.loads(json.dumps(finite({key: run.config.get(key) for key in RECIPE} | {"start_molecules": starts})))
    if not run.resume:
        if (run.dir / "calls.jsonl").exists() or any((run.dir / n).exists() for n in ("starts", "stages")):
            raise ConfigError(
                f"run_dir={run.dir} holds the calls of a run that did not end; continue it with resume=true, or remove it."
            )
        write_atomically(path, json.dumps(recipe, indent=1) + "\n")
        return
    if not path.exists():
        raise ConfigError(f"resume=true, but run_dir={run.dir} holds no design run.")
    try:
        before = json.loads(path.read_text()) if own_file(path) else {}
        changed = [key for key in recipe if recipe[key] != before.get(key, [] if key == "stages" else None)]
    except (ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged, so nobody can tell whether this is the same run; remove it.") from error
    if changed:
        key = changed[0]
        shown = "are other molecules" if key == "start_molecules" else f"was {before.get(key)} and is {recipe[key]}"
        raise ConfigError(f"resume=true continues the same run, but {key} {shown}.")
