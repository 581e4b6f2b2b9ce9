"""The same input several times in a table: merged where the labels agree, named where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reprogram.errors import ConfigError, DataError
from reprogram.plain import counted
from reprogram.targets.tables import Labels


@dataclass
class Merged:
    """kept: the first row of each input that stays. values, sides: their labels. notes: what was merged or left out."""

    kept: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    sides: list[np.ndarray] = field(default_factory=list)
    repeated: int = 0
    averaged: list[float] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(
    inputs: Sequence[Any], labels: Labels, rows: Sequence[object], conflicts: str
) -> tuple[list[int], Labels, list[str]]:
    """(rows that stay, their labels, notes). ``conflicts``: :class:`reprogram.targets.tables.TableOptions`."""
    if conflicts == "mean" and labels.problem == "classification":
        raise ConfigError("target.conflicts=mean needs values; allowed for classes: auto, drop, first, error.")
    places: dict[Any, list[int]] = {}
    for i, text in enumerate(inputs):
        places.setdefault(text, []).append(i)
    far = _spread(labels)
    merged = Merged()
    for found in places.values():
        before = len(merged.kept)
        if labels.values.ndim == 1:
            _one_class(merged, found, labels, rows, conflicts)
        else:
            _several_values(merged, found, labels, rows, conflicts, far)
        merged.repeated += len(found) - 1 if len(merged.kept) > before else 0  # rows that are left out are told apart
    _tell(merged, labels, conflicts, far)
    values = np.asarray(merged.values, dtype=labels.values.dtype).reshape(len(merged.kept), *labels.values.shape[1:])
    sides = np.stack(merged.sides) if labels.sides is not None and merged.sides else None
    remaining = Labels(labels.problem, labels.classes, values, np.zeros(len(values), dtype=bool), sides)
    return merged.kept, remaining, merged.notes


def _spread(labels: Labels) -> np.ndarray | None:
    """[T] standard deviation of values; None for classes and answers."""
    if labels.problem != "regression":
        return None
    known = ~np.isnan(labels.values)
    return np.array([v[k].std() if k.any() else 0.0 for v, k in zip(labels.values.T, known.T)])


def _one_class(merged: Merged, found: list[int], labels: Labels, rows: Sequence[object], conflicts: str) -> None:
    if len(set(labels.values[found].tolist())) > 1:
        merged.conflicts.append(" and ".join(str(rows[i]) for i in found[:3]))
        if conflicts != "first":
            return
    merged.kept.append(found[0])
    merged.values.append(labels.values[found[0]])


def _several_values(
    merged: Merged, found: list[int], labels: Labels, rows: Sequence[object], conflicts: str, far: np.ndarray | None
) -> None:
    """Each column for itself: measured values go before bounds, then what ``conflicts`` says."""
    width = labels.values.shape[1]
    value, side = np.full(width, np.nan), np.zeros(width, dtype=np.int8)
    for t in range(width):
        at = [i for i in found if not np.isnan(labels.values[i, t])]
        signs = {i: 0 if labels.sides is None else int(labels.sides[i, t]) for i in at}
        measured = [i for i in at if not signs[i]] or at
        if not measured:
            continue
        column, side[t] = labels.values[measured, t], signs[measured[0]]
        if side[t]:
            same = {signs[i] for i in measured} == {int(side[t])}
            value[t] = np.nan if not same else column.min() if side[t] < 0 else column.max()  # the tightest bound
            continue
        value[t] = _agreed(merged, column, [rows[i] for i in measured], conflicts, None if far is None else far[t])
    if not np.isnan(value).all():
        merged.kept.append(found[0])
        merged.values.append(value)
        merged.sides.append(side)


def _agreed(merged: Merged, column: np.ndarray, rows: list[object], conflicts: str, far: float | None) -> float:
    """One value of several of the same input, NaN for none. far: the difference that makes a conflict; None: any does."""
    gap = float(column.max() - column.min())
    if gap == 0:
        return float(column[0])
    if far is not None and gap <= far and conflicts in ("auto", "mean", "error"):
        merged.averaged.append(gap)
        return float(column.mean())
    written = " and ".join(f"{row} ({value:.6g})" for row, value in zip(rows[:3], column))
    merged.conflicts.append(written + (" and others" if len(rows) > 3 else ""))
    if conflicts == "first":
        return float(column[0])
    return float(column.mean()) if conflicts == "mean" and far is not None else float("nan")


def _tell(merged: Merged, labels: Labels, conflicts: str, far: np.ndarray | None) -> None:
    if merged.repeated:
        rows = counted(merged.repeated, "row repeats an earlier one and was", "rows repeat an earlier one and were")
        merged.notes.append(f"{rows} merged with it.")
    if merged.averaged:
        inputs = counted(len(merged.averaged), "input has", "inputs have")
        merged.notes.append(f"{inputs} several values, at most {max(merged.averaged):.3g} apart: averaged.")
    if not merged.conflicts:
        return
    if labels.problem == "regression" and far is not None:
        apart = (
            "differ"
            if conflicts in ("drop", "first")
            else f"are more than {far.max():.3g} (one standard deviation) apart"
        )
        what = f"hold the same input with values that {apart}"
        done = {"mean": "averaged", "first": "the first is kept"}.get(conflicts, "left out")
    else:
        kind = "class" if labels.problem == "classification" else "answer"
        what = f"are the same but disagree on the {kind}"
        done = "the first is kept" if conflicts == "first" else "all left out" if kind == "class" else "unknown"
    count = len(merged.conflicts)
    listed = "; ".join(merged.conflicts[:5]) + ("; …" if count > 5 else "")
    sentence = f"{counted(count, 'group')} of rows {what} (rows {listed})"
    if conflicts == "error":
        raise DataError(f"{sentence}; correct them, or give target.conflicts=drop, first or auto.")
    merged.notes.append(f"{sentence}: {done} (target.conflicts={conflicts}).")
