"""``predictions.csv``: one row a test example, as the user's file numbers them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reprogram.evaluation.metrics import predictions
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.prediction.stream import names_beside
from reprogram.result import write_atomically
from reprogram.targets.unlabelled import Input

BETWEEN = "|"  # between the labels of one multi-label example


def write_predictions(
    folder: Path,
    target: TargetTask,
    scores: np.ndarray,
    near: Mapping[str, Sequence[str]] | None = None,
    unread: Sequence[Input] = (),
) -> Path:
    """``row,label,prediction`` and ``p:CLASS`` a class; regression: ``row,label,prediction``. Returns the path.

    Then ``near``, how near an example is to the labelled ones: ``nearest_tanimoto`` (or another measure), ``nearest_row``
    (where that one stands in the user's file, else its place among the labelled ones), ``outside`` (yes, no, unknown);
    and the further columns of the user's table as they are (``file:NAME`` where the name is taken), the one that names
    rows first.

    unread: rows that could not be read. Where there are any, they stand in their places, rows are in the order of the user's
    file, and the column ``problem`` has the reason.

    Multi-label rows name the tasks that are true, separated by ``|``; a label that is missing is left out.
    """
    path = folder / "predictions.csv"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes, problem = target.info.classes, target.info.problem
    rows = list(target.test_rows) or list(range(len(target.test)))
    answers = predictions(scores, problem)
    columns = [] if problem == "regression" else [f"p:{name}" for name in classes]
    near, own = near or {}, target.test_columns
    ours = ["row", "label", "prediction", *columns, *near, *(["problem"] if unread else [])]
    lines: list[list[Any]] = []
    writer.writerow([*ours, *names_beside(list(own), ours)])
    for index, row in enumerate(rows):
        known, answer = (named(values[index], target.info) for values in (target.test.labels, answers))
        chances = [] if problem == "regression" else [f"{p:.6g}" for p in scores[index]]
        beside = [cells[index] for cells in near.values()] + ([""] if unread else [])
        lines.append([row, known, answer, *chances, *beside, *(cells[index] for cells in own.values())])
    for bad in unread:
        nothing = [""] * (len(ours) - 2)
        lines.append([bad.row, *nothing, bad.problem, *(bad.columns.get(name, "") for name in own)])
    if unread and all(isinstance(line[0], int | np.integer) for line in lines):
        lines.sort(key=lambda line: line[0])
    writer.writerows(lines)
    write_atomically(path, text.getvalue())
    return path


def named(value: Any, info: TargetInfo) -> str:
    """A label or an answer as people read it: the class, the tasks that are true, or the value."""
    if info.problem == "classification":
        return info.classes[int(value)]
    if info.problem == "multilabel":
        return BETWEEN.join(name for name, v in zip(info.classes, value, strict=True) if v == 1)
    number = float(np.asarray(value).reshape(-1)[0])
    return "" if np.isnan(number) else f"{number:.6g}"
