"""What a program answers to rows of which some cannot be read: every row keeps its place.

A row that the source cannot be asked about, or whose answer is no number, gets its reason; the others are not lost to it.
A source that fails on every row has failed itself, and its error is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import BudgetSpent, DataError, Interrupted, ReprogramError, SourceError
from reprogram.interfaces import Examples
from reprogram.modalities.batches import stacked
from reprogram.targets.base import ArrayExamples, StringExamples

if TYPE_CHECKING:
    from reprogram.applicability.base import Nearest
    from reprogram.model import ReprogrammedModel

UNKNOWN = "unknown"
BETWEEN = "|"  # between several classes in one cell
FATAL = (BudgetSpent, Interrupted, MemoryError)
AT_ONCE = 32  # images; a text source makes its own batches out of more
NOT_FINITE = "the program answers NaN or infinity"


@dataclass
class Read:
    """scores [N, T]: probabilities, or values; NaN where ``problems`` {place: reason} has one. near: of the others, in
    order; empty where the program keeps nothing to compare with."""

    scores: np.ndarray
    problems: dict[int, str]
    near: list[Nearest] = field(default_factory=list)


def read(model: ReprogrammedModel, contents: Sequence[Any], compare: bool = True, batch_size: int = AT_ONCE) -> Read:
    """One pass over strings, or images [C, H, W] of the program's shape. compare: with the labelled examples."""
    if not len(contents):
        return Read(np.zeros((0, len(model.target.classes)), np.float32), {})
    try:
        return _pass(model, contents, compare, batch_size)
    except FATAL:
        raise
    except (ReprogramError, ValueError, RuntimeError, IndexError, TypeError, KeyError) as error:
        # whatever a string or picture of a stranger makes a library raise
        if not model.source.differentiable and isinstance(error, SourceError):
            raise  # a service that cannot be reached is no fault of a row, and asking again costs
        if len(contents) == 1:
            return Read(np.full((1, len(model.target.classes)), np.nan, np.float32), {0: _sentence(error)})
        found = _apart(model, contents, compare, batch_size)
        if len(found.problems) == len(contents):
            raise
        return found


def _apart(model: ReprogrammedModel, contents: Sequence[Any], compare: bool, batch_size: int) -> Read:
    """Both halves by themselves, to lose the bad row only."""
    middle = len(contents) // 2
    parts = []
    for half in (contents[:middle], contents[middle:]):
        try:
            parts.append(read(model, half, compare, batch_size))
        except FATAL:
            raise
        except Exception as error:  # every row of this half is bad
            scores = np.full((len(half), len(model.target.classes)), np.nan, np.float32)
            parts.append(Read(scores, dict.fromkeys(range(len(half)), _sentence(error))))
    problems = parts[0].problems | {middle + place: why for place, why in parts[1].problems.items()}
    return Read(np.concatenate([p.scores for p in parts]), problems, parts[0].near + parts[1].near)


def _pass(model: ReprogrammedModel, contents: Sequence[Any], compare: bool, batch_size: int) -> Read:
    examples = as_examples(contents)
    model.check_budget(examples)
    known = model.applicability if compare else None
    found: list[np.ndarray] = []
    near: list[Nearest] = []
    with model.batches(examples, batch_size, "predicting") as batches:
        for batch in batches:
            outputs = model.outputs(batch)
            scores, finite = _scores(model, model.in_units(model.output(outputs).float()))
            found.append(scores)
            if known is not None and finite.any():
                near.append(_some(known.nearest(batch, outputs), finite))
    scores = np.concatenate(found)
    bad = np.flatnonzero(~np.isfinite(scores).all(1))
    return Read(scores, {int(place): NOT_FINITE for place in bad}, near)


def _scores(model: ReprogrammedModel, logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(scores [B, T], which rows are finite); the other rows are NaN."""
    finite = torch.isfinite(logits).all(1)
    scores = torch.full(logits.shape, float("nan"), dtype=logits.dtype)
    scores[finite.cpu()] = model.probabilities(logits[finite]).cpu()
    return scores.numpy(), finite.cpu().numpy()


def _some(near: Nearest, rows: np.ndarray) -> Nearest:
    if rows.all():
        return near
    kept = None if near.row is None else near.row[rows]
    return type(near)(
        near.measure, near.similarity[rows], near.example[rows], kept, near.outside[rows], near.level
    )


def as_examples(contents: Sequence[Any]) -> Examples:
    """Inputs whose labels nobody knows."""
    if isinstance(contents[0], str):
        return StringExamples(list(contents), np.zeros(len(contents)))
    return ArrayExamples(stacked(contents), np.zeros(len(contents)))


def columns(model: ReprogrammedModel, confidence: float) -> list[str]:
    """Names of the program's own columns, in order; ``problem`` is the last."""
    answer = _answer(model, np.zeros((0, len(model.target.classes))), confidence)
    return [*answer, *_near_names(model), "problem"]


def answers(
    model: ReprogrammedModel, contents: Sequence[Any], problems: Sequence[str], confidence: float
) -> dict[str, list[Any]]:
    """The program's own columns for rows of which ``problems`` says why some cannot be read: name -> text, number or None.

    ``prediction``; ``p:CLASS`` for each class; ``set``, the classes that the true one is among with this confidence, or
    ``low`` and ``high`` for a value; ``nearest_MEASURE``, ``nearest_row`` and ``outside`` of the labelled examples;
    ``problem``, empty for a row with an answer. Whatever the program cannot tell is ``unknown``.
    """
    good = [place for place, problem in enumerate(problems) if not problem]
    found = read(model, [contents[place] for place in good])
    told = list(problems)
    for place, why in found.problems.items():
        told[good[place]] = why
    answered = [place for place, why in enumerate(told) if not why]
    fine = np.isfinite(found.scores).all(1)
    cells = _answer(model, found.scores[fine], confidence) | _near(model, found.near, int(fine.sum()))
    placed: dict[str, list[Any]] = {}
    for name, values in cells.items():
        row: list[Any] = [None] * len(told)
        for place, value in zip(answered, values, strict=True):
            row[place] = value
        placed[name] = row
    return placed | {"problem": [why.rstrip(".") for why in told]}


def _answer(model: ReprogrammedModel, scores: np.ndarray, confidence: float) -> dict[str, list[Any]]:
    """Columns of rows that all have an answer."""
    classes, problem = model.target.classes, model.target.problem
    reach = None if model.conformal is None else model.conformal.reach(confidence)
    if problem == "regression":
        values = scores[:, 0].astype(float)
        unknown = [UNKNOWN] * len(values)
        low, high = (unknown, unknown) if reach is None else ((values - reach).tolist(), (values + reach).tolist())
        return {"prediction": values.tolist(), "low": low, "high": high}
    chances: dict[str, list[Any]] = {f"p:{name}": scores[:, i].astype(float).tolist() for i, name in enumerate(classes)}
    if problem == "multilabel":
        return {"prediction": [_named(row >= 0.5, classes) for row in scores]} | chances
    best = scores.argmax(1)
    sets: list[Any] = [UNKNOWN] * len(scores)
    if reach is not None:
        held = scores >= 1.0 - reach - 1e-9
        held[np.arange(len(best)), best] = True  # an empty set would say nothing
        sets = [_named(row, classes) for row in held]
    return {"prediction": [classes[i] for i in best]} | chances | {"set": sets}


def _named(held: np.ndarray, classes: Sequence[str]) -> str:
    return BETWEEN.join(name for name, here in zip(classes, held, strict=True) if here)


def _near_names(model: ReprogrammedModel) -> list[str]:
    known = model.applicability
    return ["outside"] if known is None else [f"nearest_{known.measure.similarity}", "nearest_row", "outside"]


def _near(model: ReprogrammedModel, near: list[Nearest], count: int) -> dict[str, list[Any]]:
    if model.applicability is None:
        return {"outside": [UNKNOWN] * count}
    cells: dict[str, list[Any]] = {name: [] for name in _near_names(model)}
    for part in near:
        similarity, row, outside = part.columns().values()
        typed: tuple[Iterable[Any], ...] = (map(float, similarity), map(int, row), outside)
        for name, values in zip(cells, typed, strict=True):
            cells[name] += list(values)
    return cells


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 200 else text[:199] + "…").rstrip(".")


def check_kind(model: ReprogrammedModel, kind: str, batch: str, where: str) -> None:
    """DataError where these inputs are not of what the program reads."""
    from reprogram.modalities import modality

    if modality(model.target.kind).batch != batch:
        raise DataError(f"The program answers {model.target.kind} inputs, but {where} has {kind} inputs.")
