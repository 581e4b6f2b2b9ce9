"""A list of inputs with the labels that a person gave: ``to_label.csv``, filled in."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.errors import DataError
from reprogram.plain import counted
from reprogram.targets.tables import Table, TableOptions, is_missing, read_labels, read_table, spelling_key

INPUT, LABEL = "input", "label"  # columns of a list of labels
ALIKE = 0.65  # likeness of spellings (difflib) from which one may be a slip of the other
UNCLEAR = "?"  # a person looked and could not tell


@dataclass
class Labelled:
    """Labels of inputs of a pool. places [n] of the pool, in file order; values [n] or [n, T]; problem and classes as a
    target has them. unclear: places that nobody could tell."""

    places: np.ndarray
    values: np.ndarray
    classes: tuple[str, ...]
    problem: str
    unclear: np.ndarray
    texts: list[str]
    notes: list[str] = field(default_factory=list)


def read_list(path: str | Path, key: str = "labels", options: TableOptions | None = None) -> Table:
    """A table with the columns ``input`` and ``label``. Raises DataError where it has none."""
    table = read_table(path, key=key, options=options, wanted=[INPUT, LABEL])
    for name in (INPUT, LABEL):
        if name not in table.columns:
            raise DataError(
                f"{key}={path} has no column '{name}'; a list of labels has the columns '{INPUT}' and '{LABEL}', as the "
                "to_label.csv of task=choose_labels."
            )
    table.labelled_by_hand = True
    return table


def labels_of(table: Table, place_of: Callable[[str], int | None]) -> Labelled:
    """The labels of a list. place_of: an ``input`` -> its place in the pool, None where it has none.

    Empty labels are no labels; an input with two different ones is left out of both, and named.
    """
    given: dict[int, tuple[str, int]] = {}
    unclear, doubled, strangers = list[int](), dict[int, int](), list[int]()
    for text, label, row in zip(table.columns[INPUT], table.columns[LABEL], table.rows, strict=True):
        place = place_of(text)
        if place is None:
            strangers += [] if is_missing(label) else [row]
        elif label.strip() == UNCLEAR:
            unclear.append(place)
        elif not is_missing(label):
            first, _ = given.setdefault(place, (label.strip(), row))
            if spelling_key(first) != spelling_key(label):
                doubled[place] = row
    notes = []
    if strangers:
        labels = counted(len(strangers), "label is of an input that is", "labels are of inputs that are")
        notes.append(f"{labels} not there, such as that of row {strangers[0]} of {table.path}.")
    if doubled:
        row = next(iter(doubled.values()))
        inputs = counted(len(doubled), "input has", "inputs have")
        notes.append(f"{inputs} two labels, such as that of row {row} of {table.path}: left out.")
    kept = {place: told for place, told in given.items() if place not in doubled}
    places, texts = np.array(list(kept), int), [text for text, _ in kept.values()]
    doubt = np.array(unclear, int)
    if len({text.lower() for text in texts}) < 2:
        only = tuple(dict.fromkeys(texts))
        return Labelled(places, np.zeros(len(places), int), only, "classification", doubt, texts, notes)
    rows = [row for _, row in kept.values()]
    found = read_labels(Table(table.path, {LABEL: texts}, rows, [], table.options, table.labelled_by_hand), [LABEL])
    if found.problem == "classification":
        texts = [found.classes[int(value)] for value in found.values]
        notes += _slips(texts, rows)
    return Labelled(places, found.values, found.classes, found.problem, doubt, texts, [*notes, *found.notes])


def _slips(texts: Sequence[str], rows: Sequence[int]) -> list[str]:
    """A note on classes of one label that are spelled nearly like a class of several: slips of the finger become classes."""
    counts = Counter(texts)
    several, found = [name for name, count in counts.items() if count > 1], []
    for text, row in zip(texts, rows, strict=True):
        near = get_close_matches(text, several, 1, ALIKE) if counts[text] == 1 else []
        if near and not any(letter.isdigit() for letter in text + near[0]):  # "type 2" is no slip of "type 1"
            found.append(f"'{text}' (row {row}), rather '{near[0]}'?")
    return [f"Classes of one label that may be slips: {' '.join(found[:10])}"] if found else []


def write_list(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """CSV text of a list of labels."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
