"""What a user can say about a table file. Each is found in the file where it is not given, and what was found is noted."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from reprogram.errors import ConfigError, nearest

DECIMALS = (".", ",")
CENSORED = ("drop", "value", "bound")
CONFLICTS = ("auto", "drop", "mean", "first", "error")


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table is read; the keys of ``conf/target/csv.yaml`` with the same names.

    delimiter: between the columns; null finds comma, semicolon, tab or ``|``.
    decimal: mark of decimals in label columns, ``.`` or ``,``; null finds it.
    encoding: of text files; null finds UTF-8, UTF-16 and UTF-32, else reads Windows-1252.
    sheet: of a workbook; null takes the first.
    id_column: the user's own name of each row; null finds a column that looks like one.
    censored: values such as ``<-4.5``: ``drop`` leaves the row out, ``value`` takes the bound for the value, ``bound``
        estimates a value beyond the bound (:mod:`reprogram.targets.censored`); null refuses them.
    conflicts: the same input with labels that disagree: ``drop`` leaves it out, ``mean`` averages values, ``first`` keeps
        the first row, ``error`` refuses; ``auto`` averages values that lie within one standard deviation of the column,
        and drops values further apart, and classes.
    ignore_case: ``Yes`` and ``YES`` are one class.
    """

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    id_column: str | None = None
    censored: str | None = None
    conflicts: str = "auto"
    ignore_case: bool = True

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigError(f"target.delimiter={self.delimiter} must be one character, such as ';' or '\\t'.")
        if self.decimal is not None and self.decimal not in DECIMALS:
            raise ConfigError(f"target.decimal={self.decimal} is not known; allowed: '.' and ','.")
        if self.decimal is not None and self.decimal == self.delimiter:
            raise ConfigError(f"target.decimal and target.delimiter cannot both be '{self.decimal}'.")
        for key, value, allowed in (("censored", self.censored, CENSORED), ("conflicts", self.conflicts, CONFLICTS)):
            if value is not None and value not in allowed:
                raise ConfigError(f"target.{key}={value} is not known; {nearest(value, allowed)}.")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
                b"".decode(self.encoding)
            except (LookupError, UnicodeError, ValueError) as error:
                raise ConfigError(
                    f"target.encoding={self.encoding} is no text encoding that Python knows, such as utf-8, utf-16 or cp1252."
                ) from error
