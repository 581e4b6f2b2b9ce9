"""Functions of users, named on the command line."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from reprogram.errors import ConfigError


def user_function(path: str, key: str) -> Callable[..., Any]:
    """The function behind ``package.module:name`` (or ``package.module.name``); its module is on the Python path.

    key: the option that names it, for the error. Raises ConfigError.
    """
    module, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        found = getattr(import_module(module), attribute) if module else None
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}={path} cannot be imported: {error}.") from error
    if not callable(found):
        raise ConfigError(f"{key}={path} must be written package.module:name, and name a function.")
    return found  # type: ignore[no-any-return]
