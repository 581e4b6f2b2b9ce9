"""Label columns as classes or numbers. What cannot be meant is refused in a sentence that says what to type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from unicodedata import normalize

import numpy as np

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.targets.tables.numbers import NOT_MEASURED, Column, Number, read_column
from reprogram.targets.tables.table import Table, is_missing, named

TRUE, FALSE = {"1", "1.0", "true", "yes", "y", "t"}, {"0", "0.0", "false", "no", "n", "f"}
MOST_CLASSES = 30  # whole numbers with more different values than this are read as a quantity
FEWEST_ROWS = 10  # fewer do not tell whether every row is a class of its own
MOST_UNREADABLE = 0.05  # share of values that may be no number; such rows are left out and named
PROBLEMS = ("auto", "classification", "multilabel", "regression")


@dataclass
class Labels:
    """``values``: int [N], or float [N, T] with NaN for missing; a row without any label is in ``unlabelled``.

    sides: int8 [N, T]; -1 where the value is an upper bound (``<``), 1 where it is a lower one, or None where none is.
    explained: bool [N] of rows whose lack of a label is told in the notes already. notes: what was found in the columns.
    """

    problem: str
    classes: tuple[str, ...]
    values: np.ndarray
    unlabelled: np.ndarray
    sides: np.ndarray | None = None
    explained: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def read_labels(
    table: Table,
    columns: str | Sequence[str],
    problem: str = "auto",
    key: str = "label_column",
    known: Labels | None = None,
) -> Labels:
    """One column: classes, or values if they are numbers that are no small set of whole ones. Several: multi-label,
    or several values if any is neither 0 nor 1.

    known: the training labels, when ``table`` is a test table: its problem and its classes hold. Raises DataError for
    columns that mix text and numbers, units, or values and bounds, and where nearly every row is a class of its own.
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    problem = problem if known is None else known.problem
    if problem not in PROBLEMS:
        raise ConfigError(f"target.problem={problem} is not known; {nearest(problem, PROBLEMS)}")
    if not names:
        raise ConfigError(f"target.{key} must name at least one column.")
    texts = [table.column(name, f"target.{key}") for name in names]
    if problem == "auto":
        problem = _guess(table, names, texts)
    if problem == "classification":
        if len(names) > 1:
            raise ConfigError(f"target.problem=classification reads one label column, target.{key} names {len(names)}.")
        return _classes(table, names[0], texts[0], known)
    if problem == "multilabel":
        values = np.stack([_answers(table, n, t) for n, t in zip(names, texts)], axis=1)
        return Labels(problem, tuple(names), values, np.isnan(values).all(1))
    return _values(table, names, texts)


def _guess(table: Table, names: list[str], texts: list[list[str]]) -> str:
    if len(names) > 1:
        binary = all(t.lower() in TRUE | FALSE or is_missing(t) for column in texts for t in column)
        return "multilabel" if binary else "regression"
    cells = [t for t in texts[0] if not is_missing(t)]
    if {t.lower() for t in cells} <= TRUE | FALSE:
        return "classification"
    measured = [t for t in cells if t.lower() not in NOT_MEASURED]
    column = read_column(measured, table.options.decimal)
    plain = [n for n in column.numbers if n.value is not None and not n.unit and not n.side]
    different = len({n.value for n in plain})
    if len(plain) == len(cells):
        return "classification" if column.looks_whole and different <= MOST_CLASSES else "regression"
    if column.readable * 2 < len(measured) or not measured:  # text, with a number here and there at most
        if plain and len(plain) < len(cells):
            _mixed(table, names[0], texts[0], numbers=False)
        return "classification"
    spellings = len({t.lower() for t in cells})
    marked = column.readable - len(plain)
    few = spellings <= MOST_CLASSES or spellings * 5 <= len(cells)
    if marked and not plain and few and not _one_a_row(spellings, len(cells)):
        return "classification"  # "5 mg" and "10 mg", or "<1" and ">5": a few names that have numbers in them
    unreadable = len(measured) - column.readable
    if different <= MOST_CLASSES and not marked and column.looks_whole:
        _mixed(table, names[0], texts[0], numbers=True)
    if unreadable > MOST_UNREADABLE * len(cells):
        _mixed(table, names[0], texts[0], numbers=True)
    return "regression"


def _mixed(table: Table, name: str, texts: list[str], numbers: bool) -> None:
    """Raises DataError naming the first cell that is not like most others."""
    decimal = read_column([t for t in texts if not is_missing(t)], table.options.decimal).decimal
    for row, text in zip(table.rows, texts):
        is_number = read_column([text], decimal).readable == 1
        if not is_missing(text) and is_number != numbers:
            raise DataError(
                f"The label column '{name}' of {table.path} mixes numbers and text: row {row} has '{text}'; "
                "mend or drop such rows, or give target.problem=classification to read every value as a class name."
            )


def _classes(table: Table, name: str, texts: list[str], known: Labels | None) -> Labels:
    spelled = [None if is_missing(t) else _class_name(t) for t in texts]
    notes = _missing_words(name, texts)
    if known is not None:
        return _known_classes(table, name, spelled, known, notes)
    present = [s for s in spelled if s is not None]
    merged, remark = _one_spelling(Counter(present), table.options.ignore_case)
    classes = sorted(set(merged.values()), key=_numbers_first)
    if {c.casefold() for c in classes} <= TRUE | FALSE:
        classes.sort(key=lambda c: c.casefold() in TRUE)  # the second class of two is the one that metrics ask for
    if len(classes) < 2:
        found = f"only the class '{classes[0]}'" if classes else "no label at all"
        raise DataError(
            f"The label column '{name}' of {table.path} has {found}; at least two classes are needed to learn from. "
            "Rows whose label is wanted are predicted, not trained on: task=predict."
        )
    if _one_a_row(len(classes), len(present)) and not table.labelled_by_hand:
        raise DataError(_why_so_many(table, name, texts, len(classes), len(present)))
    index = {c: i for i, c in enumerate(classes)}
    values = np.array([-1 if s is None else index[merged[s]] for s in spelled], dtype=np.int64)
    return Labels("classification", tuple(classes), values, values < 0, notes=notes + ([remark] if remark else []))


def _known_classes(table: Table, name: str, spelled: list[str | None], known: Labels, notes: list[str]) -> Labels:
    """Test labels in the columns of the training classes, however they are written; DataError for an unseen class."""
    index = {_folded(c, table.options.ignore_case): i for i, c in enumerate(known.classes)}
    if len(index) == 2 and set(index) <= TRUE | FALSE:  # a training column of yes and no takes Y and N too
        for word in list(index):
            index = dict.fromkeys(TRUE if word in TRUE else FALSE, index[word]) | index
    values = np.full(len(spelled), -1, dtype=np.int64)
    for i, text in enumerate(spelled):
        if text is not None:
            at = index.get(_folded(text, table.options.ignore_case))
            if at is None:
                raise DataError(
                    f"target.test_path has the class '{text}' (row {table.rows[i]} of {table.path}), which target.path has "
                    f"not in its column '{name}'; {nearest(text, known.classes)}."
                )
            values[i] = at
    return Labels("classification", known.classes, values, values < 0, notes=notes)


def _one_spelling(counts: Counter[str], ignore_case: bool) -> tuple[dict[str, str], str]:
    """({as written: class}, note). Case and spaces do not make a class, and Y, Yes and true are one beside N, No, false."""
    groups: dict[str, Counter[str]] = {}
    for text, count in counts.items():
        groups.setdefault(_folded(text, ignore_case), Counter())[text] += count
    if ignore_case and len(groups) > 2 and set(groups) <= TRUE | FALSE:
        for words in (TRUE, FALSE):
            same = sorted((k for k in groups if k in words), key=lambda k: (-len(k), k))  # "yes" names it before "y"
            for other in same[1:]:
                groups[same[0]] += groups.pop(other)
    merged, said = dict[str, str](), list[str]()
    for folded, group in groups.items():
        alike = [t for t in group if _folded(t, ignore_case) == folded] or list(group)
        name = min(alike, key=lambda t: (-group[t], t))
        merged |= dict.fromkeys(group, name)
        if len(group) > 1:
            said.append(f"{', '.join(sorted(group))} are the class '{name}'")
    note = (
        f"Spellings of one class: {'; '.join(said[:10])} (target.ignore_case=false keeps them separate)." if said else ""
    )
    return merged, note


def spelling_key(text: str) -> str:
    """What spellings have in common that differ by case, spaces and the encoding of accents alone."""
    return normalize("NFC", " ".join(text.split()).casefold())


def _folded(text: str, ignore_case: bool) -> str:
    return spelling_key(text) if ignore_case else normalize("NFC", text)


def _one_a_row(classes: int, rows: int) -> bool:
    return rows >= FEWEST_ROWS and classes * 2 > rows


def _why_so_many(table: Table, name: str, texts: list[str], classes: int, count: int) -> str:
    """Nearly one class a row: what the column rather is."""
    begin = f"The label column '{name}' of {table.path} has {classes} different values in {count} rows, nearly one class a row"
    column = read_column([t for t in texts if not is_missing(t)], table.options.decimal)
    if column.readable * 2 < count:
        example = next(t for t in texts if not is_missing(t))
        return f"{begin}, such as '{example[:40]}'; target.label_column= must name a column of classes or of numbers."
    return f"{begin}; these are numbers: give target.problem=regression."


def _values(table: Table, names: list[str], texts: list[list[str]]) -> Labels:
    read = [_quantity(table, name, column) for name, column in zip(names, texts)]
    values = np.stack([v for v, _, _ in read], axis=1)
    sides = np.stack([s for _, s, _ in read], axis=1)
    notes = [note for _, _, found in read for note in found]
    without = np.isnan(values).all(1)
    explained = without & np.array([any(not is_missing(t) for t in row) for row in zip(*texts)])
    if table.options.censored == "drop":
        values[sides != 0] = np.nan
        explained |= np.isnan(values).all(1) & ~without
    bounds = sides if table.options.censored == "bound" and sides.any() else None
    return Labels("regression", tuple(names), values, np.isnan(values).all(1), bounds, explained, notes)


def _quantity(table: Table, name: str, texts: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(float [N] with NaN for missing, sides [N], notes) of one column of values."""
    at = [i for i, t in enumerate(texts) if not is_missing(t) and t.lower() not in NOT_MEASURED]
    column = read_column([texts[i] for i in at], table.options.decimal)
    notes = _missing_words(name, texts, NOT_MEASURED)
    if column.ambiguous:
        raise DataError(
            f"Column '{name}' of {table.path}: '{column.ambiguous}' can be read in two ways; give target.decimal=, "
            "(a comma before the decimals) or target.decimal=. (a comma between thousands)."
        )
    if column.found:
        notes.append(f"Column '{name}' has decimal commas (target.decimal=,).")
    bad = [i for i, n in zip(at, column.numbers) if n.value is None]
    if len(bad) > MOST_UNREADABLE * len(at):
        raise DataError(
            f"Column '{name}' of {table.path}, row {table.rows[bad[0]]}: '{texts[bad[0]]}' is not a finite number"
            + (f", as in {len(bad) - 1} other rows" if len(bad) > 1 else "")
            + "; correct or drop such rows, or give target.decimal=, where a comma is the decimal mark."
        )
    if bad:
        listed = named([table.rows[i] for i in bad], f"have no number in '{name}', such as '{texts[bad[0]]}': no value")
        notes.append(listed)
    notes += _units(table, name, column)
    values, sides = np.full(len(texts), np.nan), np.zeros(len(texts), dtype=np.int8)
    for i, number in zip(at, column.numbers):
        if number.value is not None:
            values[i], sides[i] = number.value, number.side
    return values, sides, notes + _bounds(table, name, at, column.numbers, texts)


def _units(table: Table, name: str, column: Column) -> list[str]:
    """A note on the one unit of a column; DataError where there are several."""
    units = +column.units
    if len(units) > 1:
        found = ", ".join(f"{unit or 'no unit'} ({count} rows)" for unit, count in units.most_common(6))
        raise DataError(
            f"Column '{name}' of {table.path} has values in several units: {found}; bring them to one unit, or drop the rows "
            "of the others, and leave the unit out of the cells."
        )
    (unit,) = units or [""]
    return [f"Column '{name}': all values are in {unit}."] if unit else []


def _bounds(table: Table, name: str, at: list[int], numbers: list[Number], texts: list[str]) -> list[str]:
    """A note on censored values; DataError where nothing says what to do with them."""
    found = [i for i, n in zip(at, numbers) if n.side]
    if not found:
        return []
    rows, example = [table.rows[i] for i in found], texts[found[0]]
    if table.options.censored is None:
        raise DataError(
            f"Column '{name}' of {table.path} has {len(found)} bounds among its values, such as '{example}' in row {rows[0]}; "
            "give target.censored=drop (leave these rows out), target.censored=bound (estimate a value beyond the bound) "
            "or target.censored=value (use the bound as the value)."
        )
    what = {
        "drop": "left out",
        "value": "read as the value itself",
        "bound": "trained on with an estimate beyond the bound, never tested on",
    }[table.options.censored]
    return [
        named(rows, f"have a bound in '{name}', such as '{example}': {what} (target.censored={table.options.censored})")
    ]


def _missing_words(name: str, texts: Sequence[str], others: Collection[str] = ()) -> list[str]:
    """A note on words that were read as no label, where they are more than an empty cell."""
    words = Counter(t for t in texts if t and (is_missing(t) or t.lower() in others))
    listed = ", ".join(f"'{word}' ({count})" for word, count in words.most_common(5))
    return [f"Column '{name}': read as no label: {listed}."] if words else []


def _answers(table: Table, name: str, texts: list[str]) -> np.ndarray:
    values = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        if is_missing(text):
            continue
        if text.lower() not in TRUE | FALSE:
            raise DataError(f"Column '{name}' of {table.path}, row {table.rows[i]}: '{text}' is not 0, 1 or empty.")
        values[i] = float(text.lower() in TRUE)
    return values


def _class_name(text: str) -> str:
    """``1`` and ``1.0`` are one class."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _numbers_first(name: str) -> tuple[bool, float, str]:
    try:
        return (False, float(name), name)
    except ValueError:
        return (True, 0.0, name)
