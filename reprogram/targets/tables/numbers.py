"""Numbers as people write them in a column: decimal commas, units, bounds, a Unicode minus.

A whole column is read at once, for ``1,234`` is one thing beside ``0,5`` and another beside ``12,000.5``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

NOT_MEASURED = {
    "-",
    "--",
    "---",
    "nd",
    "n.d.",
    "nt",
    "n.t.",
    "#value!",
    "#div/0!",
    "#num!",
    "#ref!",
    "inf",
    "-inf",
    "+inf",
}
_BOUND = re.compile(r"^(<=|>=|=<|=>|≤|≥|<|>)\s*")
_SIDE = {"<": -1, "<=": -1, "=<": -1, "≤": -1, ">": 1, ">=": 1, "=>": 1, "≥": 1}
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d*),\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")  # 0,002 is none: nobody writes thousands so
_UNIT = re.compile(r"^(.*?[\d.,])\s*((?:[^\W\d_]|[%‰°$€£])[^\d<>=]{0,11}\d?)$")


class Number(NamedTuple):
    """value: finite, or None where it is none. side: -1 for ``<``, 1 for ``>``, 0 for a plain value. unit: what follows."""

    value: float | None
    side: int = 0
    unit: str = ""


@dataclass
class Column:
    """numbers of the cells that are not missing, in their order; decimal: the mark that was used, and whether it was found."""

    numbers: list[Number]
    decimal: str
    found: bool = False
    ambiguous: str = ""
    units: Counter[str] = field(default_factory=Counter)

    @property
    def values(self) -> np.ndarray:
        return np.array([math.nan if n.value is None else n.value for n in self.numbers])

    @property
    def readable(self) -> int:
        """How many cells are numbers."""
        return sum(n.value is not None for n in self.numbers)

    @property
    def looks_whole(self) -> bool:
        """Are all numbers whole?"""
        known = [n.value for n in self.numbers if n.value is not None]
        return all(value == round(value) for value in known)


def read_column(texts: Sequence[str], decimal: str | None) -> Column:
    """The cells under the mark given, else under the one that reads more of them; the point where both read the same."""
    if decimal is not None:
        return _read(texts, decimal)
    point, comma = _read(texts, "."), _read(texts, ",")
    if comma.readable > point.readable:
        comma.found = True
        return comma
    if point.readable and point.readable == comma.readable and point.numbers != comma.numbers:
        clear = [t for t in texts if re.search(r"\d\.\d", t) or "," not in t]
        if not any(re.search(r"\.\d", t) for t in clear):  # only 1,234 and the like speak
            point.ambiguous = next(t for t, a, b in zip(texts, point.numbers, comma.numbers) if a != b)
    return point


def _read(texts: Sequence[str], decimal: str) -> Column:
    numbers = [read_number(text, decimal) for text in texts]
    return Column(numbers, decimal, units=Counter(n.unit for n in numbers if n.value is not None))


def read_number(text: str, decimal: str = ".") -> Number:
    """``<-4,5 mM`` with a decimal comma: value -4.5, side -1, unit mM. The value is None for what is no finite number."""
    text = text.strip().replace("\u2212", "-").replace("\u00a0", " ").replace("\u202f", "")
    side = 0
    if match := _BOUND.match(text):
        side, text = _SIDE[match[1]], text[match.end() :]
    elif text.startswith(("~", "≈")):
        text = text[1:].strip()
    value = _plain(text, decimal)
    if value is not None:
        return Number(value, side)
    if match := _UNIT.match(text):
        value = _plain(match[1].strip(), decimal)
        if value is not None:
            return Number(value, side, match[2].strip())
    return Number(None)


def _plain(text: str, decimal: str) -> float | None:
    text = text.replace(" ", "") if re.fullmatch(r"[+-]?\d{1,3}( \d{3})+([.,]\d+)?", text) else text
    if decimal == ",":
        if _COMMA.fullmatch(text):
            text = text.replace(".", "").replace(",", ".")
        elif re.fullmatch(r"[+-]?[1-9]\d{0,2}(\.\d{3})+", text) or "," in text:
            text = text.replace(".", "") if "," not in text else ""
    elif _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if not _PLAIN.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None
