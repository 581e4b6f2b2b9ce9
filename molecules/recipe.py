"""What a design run is made of, written beside its calls: a resumed run must be the same run (its budget may grow)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from molecules.routes.reactions import FILE as REACTIONS
from molecules.routes.stock import FILE as BLOCKS
from reprogram.errors import ConfigError
from reprogram.hooks import Run
from reprogram.locks import own_file
from reprogram.result import finite, write_atomically

RECIPE = ("seed", "oracle", "objective", "constraints", "search", "space", "start", "stop_at", "per_start", "stages", "diversity")


def hold(run: Run, starts: list[str]) -> None:
    """Write the recipe of a new run, or compare it with that of the run that is resumed."""
    path = run.dir / "recipe.json"
    told = {key: run.config.get(key) for key in RECIPE} | {"start_molecules": starts, "stock": stock(run.config)}
    recipe = json.loads(json.dumps(finite(told)))
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
        older = {"stages": [], "stock": recipe["stock"]}  # what the recipes of earlier versions do not hold
        changed = [key for key in recipe if recipe[key] != before.get(key, older.get(key))]
    except (ValueError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged, so nobody can tell whether this is the same run; remove it.") from error
    if changed == ["stock"]:
        raise ConfigError(_other_stock(before["stock"] or {}, recipe["stock"] or {}))
    if changed:
        key = changed[0]
        shown = "are other molecules" if key == "start_molecules" else f"was {before.get(key)} and is {recipe[key]}"
        raise ConfigError(f"resume=true continues the same run, but {key} {shown}.")


def stock(config: dict[str, Any]) -> dict[str, str] | None:
    """What routes are made of: the SHA-256 of the file of ``blocks`` and of ``reactions``, and where the blocks come from; None
    where no part of the run asks for routes. The same ``blocks.path`` may hold other rows tomorrow."""
    constraints = config.get("constraints") or {}
    asked = bool((config.get("search") or {}).get("space", {}).get("blocks")) or bool(constraints.get("route"))
    named = any(stage.get("search") == "routes" for stage in config.get("stages") or [] if isinstance(stage, dict))
    if not (asked or named):
        return None
    path = (config.get("blocks") or {}).get("path")
    blocks = BLOCKS if path is None else Path(path).expanduser()
    if not blocks.is_file():
        return None  # reading it names what is missing
    digests = {"blocks": _digest(blocks), "reactions": _digest(REACTIONS)}
    return digests | {"from": "the stock of this package" if path is None else f"blocks.path={path}"}


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _other_stock(before: dict[str, str], now: dict[str, str]) -> str:
    """One sentence about what is no longer the same."""
    source = now.get("from", "the stock")
    if before.get("blocks") == now.get("blocks"):
        what = "the reactions of this package are others than those that the run began with"
    else:
        what = f"{source} holds other building blocks than the run began with"
    return f"resume=true continues the same run, but {what}; bring them back, or begin a new run: run_dir=DIR."
