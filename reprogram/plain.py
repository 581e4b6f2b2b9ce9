"""Values as JSON has them, counts as people read them, texts as cells of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def is_json(value: Any) -> bool:
    """Would the value come back the same from JSON?"""
    if isinstance(value, dict):
        return all(map(is_json, value.values()))
    if isinstance(value, list):
        return all(map(is_json, value))
    return value is None or isinstance(value, str | bool | int | float)


def plain(value: Any) -> Any:
    """Mappings and sequences of any class as dict and list, the way JSON has them."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    return value


def counted(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun and, where given, its verb: ``counted(1, "row")`` is ``1 row``, ``counted(2_000, "row is",
    "rows are")`` is ``2,000 rows are``. many: the plural (None: ``one`` with an s)."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def cell(text: str) -> str:
    """A text, with names of a user's classes perhaps, as one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
