"""One round of labelling: which inputs of a pool to label next, which labels to look at again, what more labels bring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.errors import DataError
from reprogram.interfaces import OutputMapping, SourceModel, SourceOutput, SourceSpec, TargetInfo
from reprogram.labels import choose
from reprogram.labels.forecast import Evidence, Forecast, forecast
from reprogram.labels.reading import read_pool
from reprogram.labels.suspects import Suspects, find_suspects
from reprogram.model import pick
from reprogram.outputs._graph import nearest
from reprogram.outputs._pool import PoolReader
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.pool import pool_candidates
from reprogram.targets.label_list import Labelled
from reprogram.targets.pool import Pool

SUSPECT_SHARE = 0.5  # of a round's labels at most are spent on looking again


@dataclass
class RoundRead:
    """A pool as the source sees it. places [n]: those of the pool that could be read, in order; points [n, p]: the space
    that like inputs are near in; outputs of the view that the blend reads."""

    places: np.ndarray
    points: Tensor
    outputs: list[SourceOutput]
    spec: SourceSpec
    info: TargetInfo
    photographs: bool


@dataclass
class Round:
    """Places of the pool. chosen: to label, the most useful first. check: labelled ones to look at again, the most
    suspicious first, with the label suspected and the chance that the given one is wrong. guesses: {place: (class, p)}.
    stands_for: {place: inputs of the pool that are nearest to it}. outliers: set apart, never chosen.
    """

    chosen: np.ndarray
    check: list[tuple[int, str, float]] = field(default_factory=list)
    usually_right: float = float("nan")
    guesses: dict[int, tuple[str, float]] = field(default_factory=dict)
    stands_for: dict[int, int] = field(default_factory=dict)
    outliers: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    forecast: Forecast | None = None
    notes: list[str] = field(default_factory=list)


def read(source: SourceModel, pool: Pool, info: TargetInfo, photographs: bool | None = None) -> RoundRead:
    """One pass over the pool, which serves the space to choose in and the program that judges."""
    if photographs is None:
        photographs = info.input_shape is not None and info.input_shape[0] == 3
    candidate = pool_candidates(source.spec, info, photographs)[0]
    output = make_output(candidate.output)
    output.build(source.spec, info)
    layers = choose.choosing_layers(source.spec, photographs)
    taps = dict.fromkeys([*output.taps(), *PoolReader(source.spec, info, layers, True, 1).taps()])
    outputs, places = read_pool(source, pool, info, make_input(candidate.input), tuple(taps))
    points = choose.space(outputs, source.spec, info, layers)
    return RoundRead(places, points.cpu(), outputs, source.spec, info, photographs)


def choose_round(found: RoundRead, labelled: Labelled, budget: int, seed: int = 0) -> Round:
    """The next ``budget`` labels: doubtful labels to look at again first, then new ones."""
    at = {int(place): i for i, place in enumerate(found.places)}
    kept = np.array([i for i, place in enumerate(labelled.places) if int(place) in at], int)
    rows = np.array([at[int(place)] for place in labelled.places[kept]], int)
    result, doubt = Round(np.zeros(0, int)), np.ones(len(found.places))
    if len(kept) and labelled.problem == "classification" and len(labelled.classes) > 1:
        doubt = _judge(found, labelled, kept, rows, result, int(SUSPECT_SHARE * budget))
    elif len(kept) and labelled.problem != "classification":
        result.notes.append("The labels are values, so inputs were chosen to cover the pool; there is no forecast.")
    unclear = {at[int(place)] for place in labelled.unclear if int(place) in at}
    free = np.array([i for i in range(len(found.places)) if i not in unclear], int)
    position = {int(row): i for i, row in enumerate(free)}
    known = np.array([position[int(row)] for row in rows if int(row) in position], int)
    wanted = budget - len(result.check)
    picked = free[choose.next_round(found.points[torch.from_numpy(free)], known, doubt[free], wanted, seed)]
    result.chosen = found.places[picked]
    result.outliers = found.places[np.flatnonzero(choose.outliers(found.points))]
    if len(picked) < wanted:
        result.notes.append(f"Only {len(picked)} of {wanted} inputs could be chosen: the rest is nearly the same, or set apart.")
    result.stands_for = _stands_for(found, np.concatenate([rows, picked]))
    return result


def _judge(found: RoundRead, labelled: Labelled, kept: np.ndarray, rows: np.ndarray, into: Round, most: int) -> np.ndarray:
    """Doubt [n] of every input by a program that reads the pool; suspects, guesses and the forecast go into the round."""
    info = TargetInfo(found.info.name, found.info.kind, "classification", labelled.classes, found.info.input_shape)
    values = labelled.values[kept]
    output = fitted(found, info, rows, values)
    with torch.no_grad():
        chances = output(found.outputs).softmax(1).double().cpu().numpy()
    left = output.left_out
    if left is None:
        raise DataError("The program that judges the labels has no left-out answers.")
    left_out = left.double().softmax(1).cpu().numpy()
    suspects = find_suspects(left_out, values)
    doubtful = suspects.doubtful()[:most]
    into.check = _told(suspects, doubtful, labelled.places[kept], labelled.classes)
    into.usually_right = suspects.usually_right(doubtful)
    rest = np.setdiff1d(np.arange(len(chances)), rows)
    into.forecast = forecast(Evidence.of(left_out, values, chances[rest] if len(rest) else chances))
    best = chances.argmax(1)
    into.guesses = {
        int(place): (labelled.classes[best[i]], float(chances[i, best[i]])) for i, place in enumerate(found.places)
    }
    return choose.doubts(chances)


def fitted(found: RoundRead, info: TargetInfo, rows: np.ndarray, values: np.ndarray) -> OutputMapping:
    """The blend that reads the pool, fitted on labels of its rows."""
    candidate = pool_candidates(found.spec, info, found.photographs)[0]
    output = make_output(candidate.output)
    output.build(found.spec, info)
    output.observe_pool(found.outputs)
    output.fit(pick(found.outputs, torch.from_numpy(rows)), torch.from_numpy(values))
    return output


def _told(
    suspects: Suspects, rows: np.ndarray, places: np.ndarray, classes: tuple[str, ...]
) -> list[tuple[int, str, float]]:
    return [(int(places[r]), classes[int(suspects.suspected[r])], float(suspects.wrong[r])) for r in rows]


def _stands_for(found: RoundRead, rows: np.ndarray) -> dict[int, int]:
    """How many inputs of the pool are nearest to each of these rows."""
    if not len(rows):
        return {}
    _, own = nearest(found.points.float(), found.points[torch.from_numpy(rows)].float(), 1)
    counts = np.bincount(own[:, 0].numpy(), minlength=len(rows))
    return {int(found.places[row]): int(count) for row, count in zip(rows, counts, strict=True)}


def told(forecast: Forecast | None) -> dict[str, Any] | None:
    """As ``result.json`` has it."""
    if forecast is None:
        return None
    return {"now": vars(forecast.now), "twice": vars(forecast.twice), "worth": forecast.worth}
