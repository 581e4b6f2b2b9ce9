"""Check values that come from a file or a command line against the types that a method declares."""

from __future__ import annotations

import inspect
import math
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from reprogram.errors import ConfigError, nearest
from reprogram.ranges import Length, Range

LARGEST_NUMBER = 10**7  # no hyper-parameter of a program is larger; a stranger's number must not order terabytes
PLAIN = (bool, int, float, str, type(None))


class Signature(NamedTuple):
    """What a class or function takes: types by name, the names that must be given, and whether it takes any others."""

    hints: dict[str, Any]
    required: set[str]
    open: bool


@lru_cache(maxsize=512)
def signature(target: Any) -> Signature:
    """Of the constructor, if ``target`` is a class; ``options_of`` is the class whose options its ``**kwargs`` are."""
    function: Any = getattr(target, "__init__") if isinstance(target, type) else target  # noqa: B009
    hints = _hints(target, function)
    parameters = [p for name, p in inspect.signature(function).parameters.items() if name != "self"]
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    found = Signature(
        {p.name: hints.get(p.name, Any) for p in named},
        {p.name for p in named if p.default is p.empty},
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )
    passed_on = getattr(target, "options_of", None)
    return Signature(signature(passed_on).hints | found.hints, found.required, False) if passed_on else found


def _hints(target: Any, function: Any) -> dict[str, Any]:
    """Declared types by name; what is only imported for type checkers counts as anything."""
    where = target if is_dataclass(target) else function
    try:
        return typing.get_type_hints(where, include_extras=True)
    except (NameError, TypeError):
        pass
    found: dict[str, Any] = {}
    for owner in reversed(where.__mro__ if isinstance(where, type) else (where,)):
        names = vars(sys.modules[owner.__module__]) if owner.__module__ in sys.modules else {}
        for name, hint in getattr(owner, "__annotations__", {}).items():
            try:
                found[name] = eval(hint, dict(names)) if isinstance(hint, str) else hint  # our own source code
            except (NameError, TypeError):
                found[name] = Any
    return found


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
            told = _out_of_range(name, value, hints[name]) if moderate(value) else ""
            told = told or f"'{name}' is {str(value)[:80]!r}, allowed: {readable(hints[name])}"
            raise ConfigError(f"{where}: {told.rstrip('.')}")
    return {name: _as_declared(value, hints[name]) for name, value in values.items()}


def check_call(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Plain arguments of a call from Python against what ``target`` declares with a range. Raises ConfigError."""
    hints, group = signature(target).hints, getattr(target, "group", "")
    for name, value in {**dict(zip(hints, args)), **kwargs}.items():
        hint = hints.get(name, Any)
        if has_range(hint) and _is_plain(value) and (why := refusal(f"{group}{name}", value, hint)):
            raise ConfigError(why)


def refusal(key: str, value: Any, hint: Any) -> str:
    """Why ``value`` cannot be what ``key`` is declared as, in a sentence; empty where it can be."""
    if can_be(value, hint):
        return ""
    return _out_of_range(key, value, hint) or f"{key}={_shown(value)} is not possible; allowed: {readable(hint)}."


def _shown(value: Any) -> str:
    shown = "null" if value is None else repr(value) if value == "" else str(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _out_of_range(key: str, value: Any, hint: Any) -> str:
    """The sentence on a value of the declared type beyond its limit, or on such an item of a list; empty for others."""
    limits = [limit for limit in _limits(hint) if matches(value, limit[0])]
    if limits:
        return f"{key}={_shown(value)} must be {' or '.join(limit[1].broken_by(value) for limit in limits)}."
    for item, inner in _items(value, hint):
        if broken := [limit for base, limit in _limits(inner) if matches(item, base) and not limit.holds(item)]:
            return f"{key}={_shown(value)}: {item} must be {broken[0].broken_by(item)}."
    return ""


def _items(value: Any, hint: Any) -> list[tuple[Any, Any]]:
    """(item, its type) of a list or mapping."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [pair for option in inner for pair in _items(value, option)]
    if origin is Annotated:
        return _items(value, inner[0])
    if isinstance(value, dict) and origin in (dict, Mapping) and inner:
        return [(item, inner[1]) for item in value.values()]
    if not isinstance(value, list | tuple) or origin not in (list, tuple, Sequence) or not inner:
        return []
    if origin is tuple and inner[-1] is not Ellipsis:
        return [pair for item, kind in zip(value, inner) for pair in [(item, kind), *_items(item, kind)]]
    return [pair for item in value for pair in [(item, inner[0]), *_items(item, inner[0])]]


def can_be(value: Any, hint: Any) -> bool:
    """As :func:`matches`; where a class of our own is wanted, what a configuration makes it from (``_target_``) can be it."""
    if can_be_checked(hint):
        return matches(value, hint)
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(can_be(value, option) for option in get_args(hint))
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple)
    if origin in (dict, Mapping):
        return isinstance(value, dict)
    return not isinstance(hint, type) or (isinstance(value, dict) and "_target_" in value)


def has_range(hint: Any) -> bool:
    """Does a type say more than the kind of value, however deep?"""
    return get_origin(hint) is Annotated or any(map(has_range, get_args(hint)))


def _limits(hint: Any) -> list[tuple[Any, Range | Length]]:
    """(type, limit) of each alternative that declares a limit."""
    if get_origin(hint) is Annotated:
        base, *limits = get_args(hint)
        return [(base, limit) for limit in limits]
    if get_origin(hint) in (Union, types.UnionType):
        return [found for option in get_args(hint) for found in _limits(option)]
    return []


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value) in PLAIN or value is None


def matches(value: Any, hint: Any) -> bool:
    """Is a JSON value of a type: bool, int, float, str, None, Literal, Union, list, tuple, dict of those, in its range?

    A float is never NaN or infinite: no option means anything by it.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        return matches(value, inner[0]) and all(limit.holds(value) for limit in inner[1:])
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
        return type(value) in (int, float) and math.isfinite(value)
    return hint in (bool, int, str) and type(value) is hint


def can_be_checked(hint: Any) -> bool:
    """Does a type say all that there is to say about a plain value? Classes of our own do not."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal or hint is Any or hint in PLAIN or hint is None:
        return True
    if origin is Annotated:
        return can_be_checked(inner[0])
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
    if origin is Annotated:
        return readable(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(readable(option) for option in inner))
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
