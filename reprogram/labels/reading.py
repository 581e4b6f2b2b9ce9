"""What a frozen source answers for a pool of inputs without labels, in one pass; and the labels that a person gave some."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprogram.errors import BudgetSpent, DataError
from reprogram.evaluation.features import Reading
from reprogram.interfaces import InputTransformation, SourceModel, SourceOutput, Tap, TargetInfo
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel, concatenate
from reprogram.progress import progress
from reprogram.sources.reading import reading_notes
from reprogram.targets.base import StringExamples
from reprogram.targets.pool import Pool
from reprogram.targets.tables import Table, is_missing, read_labels, read_table

INPUT, LABEL = "input", "label"  # columns of a list of labels
UNCLEAR = "?"  # a person looked and could not tell


def read_pool(
    source: SourceModel, pool: Pool, info: TargetInfo, input: InputTransformation, taps: Sequence[Tap]
) -> tuple[list[SourceOutput], np.ndarray]:
    """(source outputs of a pool, one a view; places [n] of the inputs that could be read).

    ``input`` is unbuilt. Raises BudgetSpent, before anything is asked, where the budget of a query-only source cannot pay
    for the whole pool; DataError where nothing can be read.
    """
    model = ReprogrammedModel(source, input, Reading(tuple(taps)), info, build=False)
    input.build(source.spec, info)
    model.to(next(iter(source.parameters()), torch.zeros(0)).device).eval()
    if not modality(pool.kind).pixels:
        strings = StringExamples([str(text) for text in pool.contents], np.zeros(len(pool)))
        pool.notes += reading_notes(source, input, strings, "unlabelled")
    _check_budget(model, pool)
    places, parts = list[np.ndarray](), list[list[SourceOutput]]()
    with torch.no_grad(), progress("reading inputs without labels", len(pool)) as bar:
        for found, batch in pool.batches():
            batch = batch.to(model.device) if isinstance(batch, torch.Tensor) else batch
            parts.append([output.detach() for output in model.outputs(batch)])
            places.append(found)
            bar.advance(len(found))
    if not parts:
        raise DataError(f"None of {pool.total:,} inputs without labels can be read. {' '.join(pool.told()[-1:])}".strip())
    return [concatenate([part[view] for part in parts]) for view in range(len(parts[0]))], np.concatenate(places)


def _check_budget(model: ReprogrammedModel, pool: Pool) -> None:
    left = model.source.affordable()
    if left == float("inf"):
        return
    price = model.source.price(view for _, batch in pool.batches() for view in model.input(batch))
    if price > left:
        raise BudgetSpent(
            f"Reading {len(pool):,} inputs without labels needs {price:,} queries and {left:,.0f} are left in the budget, "
            "so none was asked; give a larger source.budget, or fewer inputs."
        )


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


def read_list(path: str | Path) -> Table:
    """A table with the columns ``input`` and ``label``. Raises DataError where it has none."""
    table = read_table(path, key="labels", wanted=[INPUT, LABEL])
    for name in (INPUT, LABEL):
        table.column(name, "labels")
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
            if given.setdefault(place, (label.strip(), row))[0] != label.strip():
                doubled[place] = row
    notes = []
    if strangers:
        notes.append(f"{len(strangers)} labels of {table.path} are of inputs that the pool does not have: row {strangers[0]} is.")
    if doubled:
        row = next(iter(doubled.values()))
        notes.append(f"{len(doubled)} inputs of {table.path} have two labels, such as that of row {row}: left out.")
    kept = {place: told for place, told in given.items() if place not in doubled}
    places, texts = np.array(list(kept), int), [text for text, _ in kept.values()]
    if len({text.lower() for text in texts}) < 2:
        return Labelled(places, np.zeros(len(places), int), tuple(dict.fromkeys(texts)), "classification", np.array(unclear, int), texts, notes)
    small = Table(table.path, {LABEL: texts}, [row for _, row in kept.values()], options=table.options)
    found = read_labels(small, [LABEL])
    texts = [found.classes[int(v)] for v in found.values] if found.problem == "classification" else texts
    return Labelled(places, found.values, found.classes, found.problem, np.array(unclear, int), texts, [*notes, *found.notes])


def write_list(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """CSV text of a list of labels."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
