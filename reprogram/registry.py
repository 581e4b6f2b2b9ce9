"""Methods by name: the name of a method is the name of its file. A new file is found; nothing is registered by hand."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from reprogram.errors import ConfigError, nearest

DOMAINS = ("molecules",)  # domain packages built on the toolkit, whose methods are ours too; looked up, never imported


def names(package: str) -> list[str]:
    """The methods of a package, e.g. ``names("reprogram.inputs")``, and those that domain packages add to it."""
    return sorted(_homes(package))


def _homes(package: str) -> dict[str, str]:
    """Method -> the module that defines it."""
    kind = package.rpartition(".")[2]
    homes: dict[str, str] = {}
    for place in (package, *(f"{domain}.{kind}" for domain in DOMAINS)):
        if place != package and (find_spec(place.partition(".")[0]) is None or find_spec(place) is None):
            continue
        for module in pkgutil.iter_modules(import_module(place).__path__):
            if not module.name.startswith("_") and module.name != "base":
                homes.setdefault(module.name, f"{place}.{module.name}")
    return homes


def find(package: str, name: str, base: type) -> type[Any]:
    """The subclass of ``base`` that file ``name`` of ``package`` defines.

    Only files of the package can be named, so a program from a stranger can choose among our methods and nothing else.
    """
    homes = _homes(package)
    if name not in homes:
        raise ConfigError(f"{package} has no '{name}'; {nearest(name, homes)}")
    module = import_module(homes[name])
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    public = [c for c in found if not c.__name__.startswith("_")]
    if not public:
        raise ConfigError(f"{package}.{name} is not a method that can be chosen; {nearest('', names(package))}")
    return public[0]
