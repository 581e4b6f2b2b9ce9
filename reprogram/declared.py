"""Choices of the command line that need no option file: classes that other packages declare by entry points.

An option file has the description for ``--help`` and the values that are recommended. Without one, the options of a
declared class are its arguments, with the values they have in the code. A class is imported only where it is chosen.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from reprogram.errors import ConfigError
from reprogram.plain import is_json, plain
from reprogram.registry import chosen_as


def descriptions(choice: str) -> dict[str, str]:
    """What ``--help`` shows of each; nothing is imported."""
    return {name: f"of the package {point.value.partition('.')[0]}" for name, point in chosen_as(choice).items()}


def declare(arguments: Iterable[str], known: Any) -> None:
    """Let Hydra find what the arguments choose. known: choice -> names that have a file, which go first."""
    for argument in arguments:
        choice, _, value = argument.partition("=")
        for name in value.split(","):
            if name in chosen_as(choice) and name not in known(choice):
                ConfigStore.instance().store(name=name, group=choice, node=node(choice, name))


def node(choice: str, name: str) -> dict[str, Any]:
    """``{"_target_": …, option: default}`` of a declared class; ``???`` for what must be given. Raises ConfigError."""
    point = chosen_as(choice)[name]
    try:
        method = point.load()
    except Exception as error:  # another package's import may raise anything
        raise ConfigError(f"{choice}={name} of {point.value} cannot be loaded: {error}.") from error
    options = {key: "???" if value is MISSING else plain(value) for key, value in _arguments(method).items()}
    target = f"{method.__module__}.{method.__qualname__}"
    return {"_target_": target} | {key: value for key, value in options.items() if is_json(value)}


def _arguments(method: Any) -> dict[str, Any]:
    """Argument -> default, MISSING where there is none."""
    if is_dataclass(method):
        made = [f for f in fields(method) if f.init]
        return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in made}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p for p in inspect.signature(method).parameters.values() if p.kind in named]
    return {p.name: MISSING if p.default is inspect.Parameter.empty else p.default for p in parameters}
