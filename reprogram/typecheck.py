"""Check values that come from a file against the types that a method declares, before anything is made of them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin

from reprogram.errors import ConfigError, nearest

LARGEST_NUMBER = 10**7  # no hyper-parameter is larger; a stranger's number must not order terabytes


def check_fields(dataclass: type, config: dict[str, Any], where: str) -> dict[str, Any]:
    """``config`` with lists as the tuples that ``dataclass`` declares; ConfigError for a wrong key or type."""
    hints = typing.get_type_hints(dataclass)
    own = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(dataclass) if f.init}
    return _check(config, {name: hints[name] for name in own}, own, where)


def check_arguments(function: type, arguments: dict[str, Any], where: str) -> dict[str, Any]:
    """The same for the arguments of a class that is no dataclass."""
    hints = typing.get_type_hints(function.__init__)  # type: ignore[misc]
    parameters = [
        p
        for name, p in inspect.signature(function.__init__).parameters.items()  # type: ignore[misc]
        if name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    required = {p.name: p.default is p.empty for p in parameters}
    return _check(arguments, {p.name: hints.get(p.name, Any) for p in parameters}, required, where)


def _check(values: dict[str, Any], hints: dict[str, Any], required: dict[str, bool], where: str) -> dict[str, Any]:
    for name in values:
        if name not in hints:
            raise ConfigError(f"{where} has no option '{name[:80]}'; {nearest(name[:80], hints)}")
    for name, needed in required.items():
        if needed and name not in values:
            raise ConfigError(f"{where} lacks '{name}'")
    for name, value in values.items():
        if not matches(value, hints[name]):
            raise ConfigError(f"{where}: '{name}' is {str(value)[:80]!r}, allowed: {_readable(hints[name])}")
    return {name: _as_declared(value, hints[name]) for name, value in values.items()}


def matches(value: Any, hint: Any) -> bool:
    """Is a JSON value of a type: bool, int, float, str, None, Literal, Union, list, tuple, dict of those?"""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return _moderate(value)
    if origin in (Union, types.UnionType):
        return any(matches(value, option) for option in inner)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in inner)
    if origin in (list, Sequence) or hint in (list, Sequence):
        return isinstance(value, list) and all(matches(v, inner[0] if inner else Any) for v in value)
    if origin is tuple or hint is tuple:
        return isinstance(value, list) and _matches_tuple(value, inner)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return isinstance(value, dict) and all(matches(v, inner[1] if inner else Any) for v in value.values())
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return type(value) in (int, float) and _moderate(value)
    return hint in (bool, int, str) and type(value) is hint and _moderate(value)


def _matches_tuple(value: list[Any], inner: tuple[Any, ...]) -> bool:
    if not inner or inner[-1] is Ellipsis:
        return all(matches(v, inner[0] if inner else Any) for v in value)
    return len(value) == len(inner) and all(map(matches, value, inner))


def _moderate(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(map(_moderate, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or abs(value) <= LARGEST_NUMBER


def _as_declared(value: Any, hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    wants_tuple = any(get_origin(o) is tuple or o is tuple for o in options)
    return tuple(value) if wants_tuple and isinstance(value, list) else value


def _readable(hint: Any) -> str:
    return getattr(hint, "__name__", None) if isinstance(hint, type) and not get_args(hint) else str(hint)  # type: ignore[return-value]
