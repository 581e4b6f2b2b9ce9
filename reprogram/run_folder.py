"""A run's folder: one process at a time, the configuration in it, and a resumed run is the same run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from reprogram.errors import ConfigError
from reprogram.locks import holding, own_file
from reprogram.redact import redact
from reprogram.result import write_atomically

FILE = "config.yaml"
LARGEST = 4 << 20  # bytes of a configuration
SHOWN = 4  # differing keys that the sentence names
ABSENT = "absent"
# What a run says, where it writes and how fast it goes, but not what comes out
IRRELEVANT = (
    "run_dir", "resume", "debug", "name", "logger", "parallel", "hydra", "training.checkpoint_seconds", "task.out",
)  # fmt: skip
TRANSPORT = ("url", "token_env", "header", "scheme", "verify", "timeout", "retries", "pause", "workers", "journal", "cache")
BUDGET = ("budget", "source.budget")  # a run that stopped at its budget may go on with a larger one


@contextmanager
def claimed(folder: Path, text: str, resume: bool, main: bool = True) -> Iterator[None]:
    """``folder`` is this run's inside, with its configuration ``text`` (YAML) in it. ConfigError, and nothing written,
    where another run is in it, where a finished one is, or where ``resume`` goes on with another configuration.

    main: False for the other processes of one run, which neither lock nor write.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run_dir={folder} cannot be made: {error.strerror}.") from error
    text = redact(text)
    if not main:
        _compare(folder, text, resume)
        yield
        return
    with holding(folder):
        _compare(folder, text, resume)
        write_atomically(folder / FILE, text)
        yield


def _compare(folder: Path, text: str, resume: bool) -> None:
    if not resume:
        if (folder / "result.json").exists():
            raise ConfigError(f"run_dir={folder} already holds a finished run; choose another folder or remove it.")
        return
    if not own_file(folder / FILE):
        return
    before, now = recipe(_read(folder / FILE)), recipe(yaml.safe_load(text))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key, ABSENT) != now.get(key, ABSENT)]
    if changed:
        told = [f"{key} was {_shown(before, key)} and is {_shown(now, key)}" for key in changed[:SHOWN]]
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise ConfigError(
            f"resume=true continues the same run, but {', '.join(told)}{more}; give the options that "
            f"{folder / FILE} holds, or another run_dir."
        )


def recipe(config: Mapping[str, Any], budget: bool = False) -> dict[str, str]:
    """Everything in a plain configuration that changes the result, as JSON by its dotted key. budget: limits too."""
    flat: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if path in IRRELEVANT or (path in BUDGET and not budget):
            return
        parent, _, leaf = path.rpartition(".")
        if parent == "source" and leaf in TRANSPORT:
            return
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key))
        else:
            flat[path] = json.dumps(value, default=str, sort_keys=True)

    walk(config, "")
    return flat


def digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of the recipe with its budget: what a checkpoint belongs to."""
    return hashlib.sha256(json.dumps(recipe(config, budget=True), sort_keys=True).encode()).hexdigest()


class _Plain(yaml.SafeLoader):
    """Values alone: an alias, which is never written here, can stand for more than memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def _read(path: Path) -> dict[str, Any]:
    """A configuration that an earlier process wrote, or a stranger: plain YAML values, at most 4 MB."""
    try:
        with path.open("rb") as file:
            found = yaml.load(file.read(LARGEST), _Plain)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged, so it cannot be compared with this run; remove it.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a configuration, so it cannot be compared with this run; remove it.")
    return found


def _shown(values: Mapping[str, str], key: str) -> str:
    return redact(values.get(key, ABSENT))[:80]


def is_main() -> bool:
    """Is this the process that writes? ``accelerate launch`` numbers the others from 1."""
    return os.environ.get("RANK", "0") in ("", "0")
