"""Public names that are imported where they are first used, so that importing a package stays light."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exported(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """``__getattr__`` of a package. places: public name -> module that defines it.

    The package also imports the names under ``TYPE_CHECKING``: type checkers read those, and nothing else.
    """

    def find(name: str) -> Any:
        if name in places:
            return getattr(import_module(places[name]), name)
        raise AttributeError(f"module '{package}' has no attribute {name!r}")

    return find
