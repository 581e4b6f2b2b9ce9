"""Check values that come from a file or a command line against the types that a method declares."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from reprogram.errors import ConfigError, nearest

LARGEST_NUMBER = 10**7  # no hyper-parameter of a program is larger; a stranger's number must not order terabytes
PLAIN = (bool, int, float, str, type(None))


class Signature(NamedTuple):
    """What a class or function takes: types by name, the names that must be given, and whether it takes any others."""

    hints: dict[str, Any]
    required: set[str]
    open: bool


def signature(target: Any) -> Signature:
    """Of the constructor, if ``target`` is a class."""
    function: Any = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
    try:
        hints = typing.get_type_hints(target if is_dataclass(target) else function)
    except (NameError, TypeError):  # a type that is only imported for type checkers
        hints = {}
    parameters = [p for name, p in inspect.signature(function).parameters.items() if name != "self"]
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Signature(
        {p.name: hints.get(p.name, Any) for p in named},
        {p.name for p in named if p.default is p.empty},
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def check_arguments(target: Any, values: dict[str, Any], where: str) -> dict[str, Any]:
    """``values`` from a stranger's file, with lists as the tuples that ``target`` declares.

    Only plain JSON values pass, and no number beyond ``LARGEST_NUMBER``; ConfigError for a wrong key, type or size.
    """
    hints, required, _ = signature(target)
    for name in values:
        if name not in hints:
            raise ConfigError(f"{where} has no option '{name[:80]}'; {nearest(name[:80], hints)}")
    for name in sorted(required - values.keys()):
        raise ConfigError(f"{where} lacks '{name}'")
    for name, value in values.items():
        if not moderate(value) or not matches(value, hints[name]):
            raise ConfigError(f"{where}: '{name}' is {str(value)[:80]!r}, allowed: {readable(hints[name])}")
    return {name: _as_declared(value, hints[name]) for name, value in values.items()}


def matches(value: Any, hint: Any) -> bool:
    """Is a JSON value of a type: bool, int, float, str, None, Literal, Union, list, tuple, dict of those?"""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(matches(value, option) for option in inner)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in inner)
    if origin in (list, Sequence) or hint in (list, Sequence):
        return isinstance(value, list | tuple) and all(matches(v, inner[0] if inner else Any) for v in value)
    if origin is tuple or hint is tuple:
        return isinstance(value, list | tuple) and _matches_tuple(value, inner)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return isinstance(value, dict) and all(matches(v, inner[1] if inner else Any) for v in value.values())
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return type(value) in (int, float)
    return hint in (bool, int, str) and type(value) is hint


def can_be_checked(hint: Any) -> bool:
    """Does a type say all that there is to say about a plain value? Classes of our own do not."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal or hint is Any or hint in PLAIN or hint is None:
        return True
    if origin in (Union, types.UnionType, list, tuple, dict, Sequence, Mapping):
        return all(option is Ellipsis or can_be_checked(option) for option in inner)
    return hint in (list, tuple, dict)


def moderate(value: Any) -> bool:
    """No number beyond ``LARGEST_NUMBER``, however deep."""
    if isinstance(value, list | tuple | dict):
        return all(map(moderate, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int | float) or abs(value) <= LARGEST_NUMBER


def readable(hint: Any) -> str:
    """A type as a user writes its values: ``int or null``."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(readable(option) for option in inner)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (list, tuple, Sequence):
        return f"list of {readable(inner[0])}" if inner else "list"
    names = {bool: "true or false", type(None): "null", float: "number", str: "text", dict: "keys and values"}
    return names.get(origin or hint, getattr(hint, "__name__", str(hint)))


def _matches_tuple(value: Sequence[Any], inner: tuple[Any, ...]) -> bool:
    if not inner or inner[-1] is Ellipsis:
        return all(matches(v, inner[0] if inner else Any) for v in value)
    return len(value) == len(inner) and all(map(matches, value, inner))


def _as_declared(value: Any, hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    wants_tuple = any(get_origin(o) is tuple or o is tuple for o in options)
    return tuple(value) if wants_tuple and isinstance(value, list) else value
