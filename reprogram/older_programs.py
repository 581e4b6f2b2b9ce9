"""Programs of earlier schemas, converted as they are read: what people keep must load in every later version.

Each schema has one function that turns a description of the schema before into its own. They are never removed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SCHEMA = 2  # what this version writes

POOLINGS = {"spread": "std", "beside": "side"}  # of a tap, by their names in schema 1
OPTIONS = {  # renamed options of methods: {(part, method): {old: new}}
    ("input", "decoder_prompt"): {"spread": "std"},
    ("input", "smiles"): {"spellings": "views"},
}


def convert(description: dict[str, Any]) -> dict[str, Any]:
    """The description as this version writes it. Values that do not fit are left as they are, for the checks to name."""
    while type(description.get("schema")) is int and description["schema"] in _STEPS:
        description = _STEPS[description["schema"]](description)
    return description


def _from_1(description: dict[str, Any]) -> dict[str, Any]:
    """Poolings and options by their names in the field."""
    converted = description | {"schema": 2}
    for part in ("input", "output"):
        method = description.get(part)
        if isinstance(method, dict) and isinstance(method.get("config"), dict):
            converted[part] = method | {"config": _options(part, str(method.get("name")), method["config"])}
    return converted


def _options(part: str, method: str, config: dict[str, Any]) -> dict[str, Any]:
    renamed = OPTIONS.get((part, method), {})
    found = {renamed.get(name, name): value for name, value in config.items()}
    if isinstance(found.get("layers"), list):
        found["layers"] = [_tap(layer) for layer in found["layers"]]
    if isinstance(found.get("members"), list):  # of an ensemble
        found["members"] = [
            m | {"config": _options(part, str(m.get("name")), m["config"])}
            if isinstance(m, dict) and isinstance(m.get("config"), dict)
            else m
            for m in found["members"]
        ]
    return found


def _tap(layer: Any) -> Any:
    if not isinstance(layer, str):
        return layer
    name, at, pooling = layer.rpartition("@")
    return f"{name}{at}{POOLINGS.get(pooling, pooling)}"


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
