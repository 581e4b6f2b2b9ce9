"""Methods by name: the name of a method is the name of its file. A new file is found; nothing is registered by hand."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from reprogram.errors import ConfigError, nearest


def names(package: str) -> list[str]:
    """The methods of a package, e.g. ``names("reprogram.inputs")``."""
    module = import_module(package)
    return sorted(
        m.name for m in pkgutil.iter_modules(module.__path__) if not m.name.startswith("_") and m.name != "base"
    )


def find(package: str, name: str, base: type) -> type[Any]:
    """The subclass of ``base`` that file ``name`` of ``package`` defines.

    Only files of the package can be named, so a program from a stranger can choose among our methods and nothing else.
    """
    if name not in names(package):
        raise ConfigError(f"{package} has no '{name}'; {nearest(name, names(package))}")
    module = import_module(f"{package}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    public = [c for c in found if not c.__name__.startswith("_")]
    if not public:
        raise ConfigError(f"{package}.{name} is not a method that can be chosen; {nearest('', names(package))}")
    return public[0]
