"""Functions whose options are the fields of a dataclass: each is seen by the checks of ``conf/`` and by ``help()``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])


def takes(options: type[Any]) -> Callable[[F], F]:
    """Give a function of the form ``f(given, **options)`` the signature and the types of the dataclass's fields."""

    def told(function: F) -> F:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        show(function, own, get_type_hints(function, include_extras=True), options)
        return function

    return told


def show(target: Any, own: list[inspect.Parameter], hints: dict[str, Any], options: type[Any]) -> None:
    """Set ``__signature__`` and ``__annotations__`` of ``target``: its own parameters, then the fields of ``options``."""
    others = [inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=_default(f)) for f in fields(options)]
    target.__signature__ = inspect.Signature([*own, *others])
    all_hints = hints | get_type_hints(options, include_extras=True)
    target.__annotations__ = {p.name: all_hints[p.name] for p in [*own, *others] if p.name in all_hints}


def _default(option: Field[Any]) -> Any:
    return inspect.Parameter.empty if option.default is MISSING else option.default
