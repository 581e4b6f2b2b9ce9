"""Methods by name. A method is found by its file, or by the entry point with which another package declares it.

Inside the toolkit the name of a method is the name of its file: a new file is found, nothing is listed by hand. Another
package declares its methods in its ``pyproject.toml``, one group a folder of the toolkit, and they are configured, kept
in programs and loaded again like the toolkit's own::

    [project.entry-points."reprogram.inputs"]
    smiles = "molecules.inputs.smiles:Smiles"

    [project.entry-points."reprogram.conf"]
    molecules = "molecules.conf"          # a package that holds option files, laid out like conf/
"""

from __future__ import annotations

import pkgutil
import re
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from reprogram.errors import ConfigError, nearest


def names(package: str) -> list[str]:
    """The methods of a package, e.g. ``names("reprogram.inputs")``, and those that other packages declare for it."""
    return sorted({*_files(package), *_declared(package)})


def find(package: str, name: str, base: type) -> type[Any]:
    """The subclass of ``base`` called ``name``. Raises ConfigError with the nearest name that exists.

    Only files of the package and declared entry points can be named, so a program from a stranger can choose among
    installed methods and nothing else.
    """
    found = load(package, name, base)
    if not isinstance(found, type):
        raise ConfigError(f"{package}.{name} is not a method that can be chosen; {nearest('', names(package))}")
    return found


def load(package: str, name: str, base: type = object) -> Any:
    """What ``name`` is: the first public subclass of ``base`` in its file, or what its entry point names.

    An entry point may name a class, an instance of ``base``, or a module that is read like a file of the toolkit.
    """
    if name in _files(package):
        return _first(import_module(f"{package}.{name}"), base)
    if name not in _declared(package):
        raise ConfigError(f"{package} has no '{name}'; {nearest(name, names(package))}")
    point = _declared(package)[name]
    try:
        found = point.load()
    except Exception as error:  # another package's import may raise anything
        raise ConfigError(f"{package}.{name} of {point.value} cannot be loaded: {error}.") from error
    if isinstance(found, ModuleType):
        return _first(found, base)
    fits = issubclass(found, base) if isinstance(found, type) else isinstance(found, base)
    return found if fits else None


def name_of(package: str, method: type) -> str | None:
    """The name under which :func:`find` gives ``method`` again; None for a class that nobody declared."""
    place, _, file = method.__module__.rpartition(".")
    if not package:
        return None
    if place == package and file in _files(package) and load(package, file, method) is method:
        return file
    for name, point in _declared(package).items():
        if point.value.partition(":")[0] == method.__module__ and load(package, name, method) is method:
            return name
    return None


def by_class_name(package: str, name: str, base: type) -> type[Any]:
    """The method of a package by the name of its class, ``Pad`` for ``pad``. Raises AttributeError as a module would."""
    for file in sorted(_files(package)) if name[:1].isupper() else ():  # a file's name is looked up by Python itself
        method = load(package, file, base)
        if isinstance(method, type) and method.__name__ == name:
            return method
    raise AttributeError(f"module '{package}' has no attribute '{name}'")


@cache
def chosen_as(choice: str) -> dict[str, EntryPoint]:
    """Methods of other packages for a choice of the command line, by name.

    ``oracle`` finds the entry points of ``molecules.oracles``, ``search`` those of ``molecules.search``: of every package
    that plugs into the toolkit, the folder of that name.
    """
    groups = [group for group in _plugged() if group.rpartition(".")[2] in (choice, f"{choice}s")]
    return {point.name: point for group in groups for point in _declared(group).values()}


@cache
def packages() -> tuple[Path, ...]:
    """Folders of the toolkit and of every package that plugs into it."""
    specs = [find_spec(name) for name in sorted(_owners())]
    return tuple(Path(place) for spec in specs if spec for place in spec.submodule_search_locations or ())


@cache
def folders(group: str) -> tuple[Path, ...]:
    """Folders that other packages declare, such as ``reprogram.conf`` for their option files; nothing is executed."""
    found = []
    for point in _declared(group).values():
        spec = find_spec(point.value.partition(":")[0])
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"The entry point '{point.name}' of {group} names {point.value}, which is no package.")
        found += [Path(place) for place in spec.submodule_search_locations]
    return tuple(found)


@cache
def _files(package: str) -> frozenset[str]:
    modules = pkgutil.iter_modules(import_module(package).__path__)
    return frozenset(m.name for m in modules if not m.name.startswith("_") and m.name != "base")


@cache
def _plugged() -> tuple[str, ...]:
    """Groups of entry points that belong to the toolkit or to a package that plugs into it."""
    return tuple(sorted(group for group in entry_points().groups if group.partition(".")[0] in _owners()))


@cache
def _owners() -> frozenset[str]:
    """The toolkit, and the packages that declare something for it."""
    own = [group for group in entry_points().groups if group.startswith("reprogram.")]
    return frozenset({"reprogram", *(re.split("[.:]", p.value)[0] for group in own for p in _declared(group).values())})


@cache
def _declared(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name; the toolkit's own files go before them."""
    return {point.name: point for point in entry_points(group=group)}


def _first(module: ModuleType, base: type) -> type | None:
    own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    return next((c for c in own if issubclass(c, base) and not c.__name__.startswith("_")), None)
