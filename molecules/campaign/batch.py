"""Which candidates make a batch: the most promising ones, some that teach most, none like another or like a measured one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from molecules.campaign.experts import Prediction
from molecules.campaign.features import MoleculeFeatures, similarities
from molecules.campaign.goals import Promise

EXPLOIT, EXPLORE = "exploit", "explore"
WIDE, NARROW = 2.0, 0.25  # factors of the standard deviations: for picks that explore, and for what would be picked without doubt
CONSIDERED = 2000  # of the most promising candidates that are compared with each other
CHUNK = 5000


class NearestMeasured(NamedTuple):
    """Of each candidate: the row of the most similar measured molecule (-1: none), and the similarity; [N] each."""

    row: np.ndarray
    similarity: np.ndarray


def nearest(candidates: MoleculeFeatures, measured: MoleculeFeatures) -> NearestMeasured:
    """By Tanimoto on counted ECFP4 fragments."""
    row, best = np.full(len(candidates), -1), np.zeros(len(candidates))
    for i in range(0, len(candidates) if len(measured) else 0, CHUNK):
        alike = similarities(candidates.take(slice(i, i + CHUNK)), measured)
        row[i : i + CHUNK], best[i : i + CHUNK] = alike.argmax(1), alike.max(1)
    return NearestMeasured(row, best)


class Pick(NamedTuple):
    """row: of the candidates. purpose: ``exploit`` or ``explore``."""

    row: int
    purpose: str


@dataclass
class Batch:
    """Picks rows one at a time, each at most ``alike`` similar to those picked before."""

    features: MoleculeFeatures
    allowed: np.ndarray
    alike: float

    def __post_init__(self) -> None:
        self.picks: list[Pick] = []

    def fits(self, row: int) -> bool:
        """Is the candidate unlike all picks?"""
        rows = [pick.row for pick in self.picks]
        if row in rows:
            return False
        if not rows or self.alike >= 1:
            return True
        return bool(similarities(self.features.take([row]), self.features.take(rows)).max() <= self.alike)

    def take(self, order: Sequence[int], count: int, purpose: str) -> int:
        """The first ``count`` of ``order`` that fit; how many were found."""
        found = 0
        for row in order:
            if found == count:
                break
            if self.allowed[row] and self.fits(int(row)):
                self.picks.append(Pick(int(row), purpose))
                found += 1
        return found


def choose(batch: Batch, promise: Promise, found: Sequence[Prediction], count: int, explore: float) -> list[Pick]:
    """The batch. found: predictions of all candidates for each goal. explore: share of picks for learning."""
    rows = np.flatnonzero(batch.allowed)
    value = np.full(len(batch.allowed), -np.inf)
    value[rows] = promise([_rows(p, rows) for p in found])
    learning = round(explore * count)
    bold = set(_order(promise, found, rows, NARROW)[: 2 * count].tolist())
    order = _best(value, CONSIDERED + count)
    if len(promise.aims) > 1:
        _take_in_turn(batch, promise, found, order, count - learning)
    else:
        batch.take(order.tolist(), count - learning, EXPLOIT)
    batch.take(_order(promise, found, rows, WIDE)[: CONSIDERED + count].tolist(), count - len(batch.picks), EXPLORE)
    return [p if p.purpose == EXPLORE or p.row in bold else Pick(p.row, EXPLORE) for p in batch.picks]


def _take_in_turn(
    batch: Batch, promise: Promise, found: Sequence[Prediction], order: np.ndarray, count: int
) -> None:
    """Several aims: after each pick the gains of the others are computed again."""
    among = [_rows(p, order) for p in found]
    while len(batch.picks) < count:
        ranked = order[np.argsort(-promise(among), kind="stable")].tolist()
        if not batch.take(ranked, 1, EXPLOIT):
            return
        promise.with_expected(found, batch.picks[-1].row)


def _order(promise: Promise, found: Sequence[Prediction], rows: np.ndarray, factor: float) -> np.ndarray:
    """Rows by what they would promise if their standard deviations were ``factor`` times as large."""
    scaled = [Prediction(p.mean[rows], factor * p.std[rows], factor * p.spread[rows]) for p in found]
    return rows[np.argsort(-promise(scaled), kind="stable")]


def _rows(found: Prediction, rows: np.ndarray) -> Prediction:
    return Prediction(*(part[rows] for part in found))


def _best(value: np.ndarray, count: int) -> np.ndarray:
    order = np.argsort(-value, kind="stable")[:count]
    return order[np.isfinite(value[order])]


def spread_out(batch: Batch, measured: MoleculeFeatures, count: int) -> list[Pick]:
    """Without a model: each pick is the candidate least like all that is measured or picked (MaxMin), of those that have
    like ones among the candidates before odd ones."""
    rows = np.flatnonzero(batch.allowed)
    if not len(rows) or not count:
        return []
    inside = batch.features.take(rows)
    sample = inside.take(np.linspace(0, len(rows) - 1, min(len(rows), 200)).round().astype(int))
    typical = np.concatenate([similarities(inside.take(slice(i, i + CHUNK)), sample).mean(1) for i in range(0, len(rows), CHUNK)])
    usual = typical >= np.quantile(typical, 0.1)
    closest = nearest(inside, measured).similarity if len(measured) else np.zeros(len(rows))
    score = closest - 1e-3 * typical
    for _ in range(min(count, len(rows))):
        best = int(np.argmin(np.where(usual, score, score + 1)))
        batch.picks.append(Pick(int(rows[best]), EXPLORE))
        near = np.concatenate(
            [similarities(inside.take(slice(i, i + CHUNK)), inside.take([best]))[:, 0] for i in range(0, len(rows), CHUNK)]
        )
        score = np.maximum(score, near - 1e-3 * typical)
        score[best] = np.inf
    return batch.picks
