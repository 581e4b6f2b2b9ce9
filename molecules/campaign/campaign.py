"""A campaign in Python: tell what was measured, ask what to make next.

    campaign = Campaign({"log_solubility": "maximize"})
    campaign.tell(["CCO", "c1ccccc1", …], {"log_solubility": [1.1, -1.6, …]})
    for proposal in campaign.ask(24, candidates):
        print(proposal.smiles, proposal.words)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from molecules import chemistry
from molecules.campaign.batch import EXPLORE, Batch, NearestMeasured, Pick, choose, nearest, spread_out
from molecules.campaign.experts import Prediction
from molecules.campaign.features import MoleculeFeatures
from molecules.campaign.goals import CONDITION, MAXIMIZE, Goal, Promise, read_goals
from molecules.campaign.property_model import FEWEST, LEVEL, PropertyModel, Scale, half_width
from reprogram.errors import ConfigError, DataError
from reprogram.errors import nearest as nearest_name
from reprogram.ranges import Checked, PositiveShare, Seed, Share
from reprogram.targets.tables.numbers import read_number


class Expected(NamedTuple):
    """What is expected of a measurement, in the units of its column: the mean and a 90% interval. std: of the true value, on
    the scale of the model (logarithms to the base 10 where ``log``)."""

    value: float
    low: float
    high: float
    std: float
    log: bool = False


@dataclass
class Proposal:
    """A candidate to make and measure next.

    row: its place among the candidates. purpose: ``exploit`` or ``explore``. promise: what it was ranked by (0 without a
    model). chance: probability that the conditions hold and, with one aim, that it is better than the best measured; None for
    several aims alone.
    expected: by column. nearest: the most similar measured molecule, ``similarity`` Tanimoto on counted ECFP4 fragments.
    """

    smiles: str
    row: int
    purpose: str
    promise: float
    chance: float | None
    expected: dict[str, Expected]
    nearest: str
    similarity: float
    words: str = ""


@dataclass
class MeasuredValues:
    """smiles [N], canonical, each once; values, sides [N, G]: NaN where not measured; -1 and 1 where it is a bound."""

    smiles: list[str] = field(default_factory=list)
    values: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    sides: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int8))


class Campaign(Checked):
    """What is wanted, what is known, and which candidates to make next.

    goals: by column: ``maximize``, ``minimize``, ``at least 7``, ``at most 10``, ``from 1 to 3``.
    explore: share of each batch that is picked for learning rather than for its promise.
    near_duplicate: candidates at least so similar to a measured molecule are left out (Tanimoto on counted ECFP4 fragments).
    alike: two picks of a batch are at most so similar. log: model logarithms of values; None: where they are positive and span
    two powers of ten. seed: of the trees.

    Raises ConfigError for what is no goal.
    """

    def __init__(
        self,
        goals: Mapping[str, str],
        *,
        explore: Share = 0.125,
        near_duplicate: PositiveShare = 0.95,
        alike: PositiveShare = 0.9,
        log: bool | None = None,
        seed: Seed = 0,
    ) -> None:
        if not goals or not isinstance(goals, Mapping):
            raise ConfigError("A campaign needs a goal by column, such as {'COLUMN': 'maximize'} (goals.COLUMN=maximize).")
        self.goals: list[Goal] = read_goals(goals)
        self.explore, self.near_duplicate, self.alike, self.log, self.seed = explore, near_duplicate, alike, log, seed
        self.columns = [goal.column for goal in self.goals]
        self.measured = MeasuredValues(values=np.zeros((0, len(self.goals))), sides=np.zeros((0, len(self.goals)), np.int8))
        self.features: MoleculeFeatures | None = None  # of the measured molecules
        self.models: list[PropertyModel] = []
        self.scales = [Scale() for _ in self.goals]
        self.past: list[list[float]] = [[] for _ in self.goals]  # standardised errors of earlier rounds, by column
        self.notes: list[str] = []

    # What is known ----------------------------------------------------------------------------------------------------

    def tell(self, smiles: Sequence[str], values: Mapping[str, Sequence[Any]] | Sequence[Any]) -> Campaign:
        """Add measured molecules. values: by column, or of the only column; numbers, None or NaN where not measured, or texts
        such as ``<-4.5``. A molecule told again replaces its values in these columns."""
        smiles = list(smiles)
        if hasattr(values, "columns"):  # a data frame
            values = {str(name): list(values[name]) for name in values.columns}
        table = values if isinstance(values, Mapping) else {self.columns[0]: values}
        if not isinstance(values, Mapping) and len(self.columns) > 1:
            raise ConfigError(f"values must be given by column: {', '.join(self.columns)}.")
        for name in table:
            if name not in self.columns:
                raise ConfigError(f"There is no goal for the column '{name}'; {nearest_name(name, self.columns)}.")
        columns = [[_number(cell) for cell in table.get(name, [None] * len(smiles))] for name in self.columns]
        others = [i for i, name in enumerate(self.columns) if name not in table]
        for name, cells in zip(self.columns, columns):
            if len(cells) != len(smiles):
                raise DataError(f"There are {len(smiles)} molecules and {len(cells)} values of '{name}'.")
        keys = []
        for text in smiles:
            key = chemistry.canonical(text)
            if key is None:
                raise DataError(f"'{text}' is not a SMILES that RDKit can parse.")
            keys.append(key)
        found = np.array([[cell[0] for cell in cells] for cells in columns], dtype=float).T.reshape(len(keys), -1)
        sides = np.array([[cell[1] for cell in cells] for cells in columns], dtype=np.int8).T.reshape(len(keys), -1)
        known = {key: i for i, key in enumerate(self.measured.smiles)}
        for row, key in enumerate(keys):
            if others and key in known:
                found[row, others] = self.measured.values[known[key], others]
                sides[row, others] = self.measured.sides[known[key], others]
        self.tell_measured(MeasuredValues(keys, found, sides))
        return self

    def tell_measured(self, new: MeasuredValues, features: MoleculeFeatures | None = None) -> None:
        """The same of canonical SMILES, bounds apart. features: of the new molecules, where they are known already."""
        known = {smiles: i for i, smiles in enumerate(new.smiles)}
        old = [i for i, smiles in enumerate(self.measured.smiles) if smiles not in known]
        rows = list(known.values())
        features = MoleculeFeatures.of(new.smiles) if features is None else features
        parts = [features.take(rows)]
        if self.features is not None and old:
            parts.insert(0, self.features.take(old))
        self.features = MoleculeFeatures.joined(parts)
        self.measured = MeasuredValues(
            [self.measured.smiles[i] for i in old] + list(known),
            np.concatenate([self.measured.values[old], new.values[rows]]),
            np.concatenate([self.measured.sides[old], new.sides[rows]]),
        )
        self.models = []

    @property
    def enough(self) -> bool:
        """Has every column four measured values? Bounds alone say nothing of how far values spread."""
        known = ~np.isnan(self.measured.values) & (self.measured.sides == 0)
        return bool(known.sum(0).min() >= FEWEST)

    def fit(self) -> None:
        """Fit a model for each column; none where a column has fewer than four measured values."""
        self.models = []
        known = ~np.isnan(self.measured.values)
        if self.features is None or not self.enough:
            return
        models = []
        for i, goal in enumerate(self.goals):
            rows = np.flatnonzero(known[:, i])
            values, sides = self.measured.values[rows, i], self.measured.sides[rows, i]
            self.scales[i] = Scale.of(values, self.log)
            scaled = self.scales[i].to_model(values)
            if not np.isfinite(scaled).all():
                raise DataError(f"Column '{goal.column}' has a value that is not positive: log=true cannot model it.")
            models.append(PropertyModel(self.seed).fit(self.features.take(rows), scaled, sides, self.past[i]))
        self.models = models

    def predict(self, features: MoleculeFeatures) -> list[Prediction]:
        """Of each column, on the scale of its model."""
        if not self.models:
            self.fit()
        return [model.predict(features) for model in self.models]

    def promise(self, count: int) -> Promise:
        """What a batch of ``count`` is chosen by; the models must be fitted."""
        goals = [goal.scaled(scale) for goal, scale in zip(self.goals, self.scales)]
        return Promise(goals, self._known(), count, self.seed)

    # What is proposed -------------------------------------------------------------------------------------------------

    def ask(self, count: int, candidates: Sequence[str]) -> list[Proposal]:
        """At most ``count`` of the candidates (SMILES) to make and measure next, the most promising first."""
        if count < 0:
            raise ConfigError(f"count is {count}; it must be 0 or more.")
        candidates = list(candidates)
        keys = [chemistry.canonical(text) for text in candidates]
        for text, key in zip(candidates, keys):
            if key is None:
                raise DataError(f"'{text}' is not a SMILES that RDKit can parse.")
        smiles = [key for key in keys if key is not None]
        return self.ask_of(count, smiles, MoleculeFeatures.of(smiles))

    def ask_of(
        self, count: int, smiles: Sequence[str], features: MoleculeFeatures, taken: Sequence[str] = ()
    ) -> list[Proposal]:
        """The same with features that are known. taken: canonical SMILES that are not proposed (again)."""
        if not smiles:
            return []
        measured = self.features or features.take([])
        near = nearest(features, measured)
        allowed = self._allowed(smiles, near, {*self.measured.smiles, *taken})
        if not allowed.any():
            return []
        batch = Batch(features, allowed, self.alike)
        found = self.predict(features)
        if not self.models:
            return [self._proposal(p, smiles, near, [], None) for p in spread_out(batch, measured, count)]
        promise = self.promise(count)
        value, chance = promise(found), self._chance(promise, found)
        picks = choose(batch, promise, found, count, self.explore)
        picks.sort(key=lambda pick: (pick.purpose == EXPLORE, -value[pick.row]))
        return [self._proposal(p, smiles, near, found, (value[p.row], chance[p.row])) for p in picks]

    def _allowed(self, smiles: Sequence[str], near: NearestMeasured, taken: set[str]) -> np.ndarray:
        """Bool [N]: neither measured nor taken nor nearly so, and each molecule once."""
        places: dict[str, int] = {}
        first = np.array([places.setdefault(s, i) == i for i, s in enumerate(smiles)], dtype=bool)
        new = np.array([s not in taken for s in smiles], dtype=bool)
        return first & new & (near.similarity < self.near_duplicate)

    def _known(self) -> np.ndarray:
        """Measured values on the scales of the models, [M, G]; a bound does not count as a value."""
        values = np.where(self.measured.sides == 0, self.measured.values, np.nan)
        return np.stack([scale.to_model(column) for scale, column in zip(self.scales, values.T)], axis=1)

    def _chance(self, promise: Promise, found: Sequence[Prediction]) -> np.ndarray:
        """[N]: the conditions hold and, with one aim, the best measured value is exceeded."""
        chance = promise.feasible(found)
        if len(promise.aims) == 1 and len(promise.front):
            i = promise.aims[0]
            best = promise.goals[i].sign * float(promise.front.max())
            ends = (best, math.inf) if self.goals[i].aim == MAXIMIZE else (-math.inf, best)
            beyond = Goal(self.columns[i], CONDITION, *ends)
            chance = chance * beyond.chance(found[i])
        return chance

    def _proposal(
        self,
        pick: Pick,
        smiles: Sequence[str],
        near: NearestMeasured,
        found: Sequence[Prediction],
        worth: tuple[float, float] | None,
    ) -> Proposal:
        expected = {}
        for goal, scale, p in zip(self.goals, self.scales, found):
            mean, reach = p.mean[pick.row], half_width(LEVEL) * p.spread[pick.row]
            value, low, high = (float(scale.to_user(v)) for v in (mean, mean - reach, mean + reach))
            expected[goal.column] = Expected(value, low, high, float(p.std[pick.row]), scale.log)
        row = int(near.row[pick.row])
        like = self.measured.smiles[row] if row >= 0 else ""
        promise, chance = (0.0, None) if worth is None else (float(worth[0]), float(worth[1]))
        if chance is not None and len(self.goals) > 1 and not any(goal.aim == CONDITION for goal in self.goals):
            chance = None
        alike = float(near.similarity[pick.row])
        proposal = Proposal(smiles[pick.row], pick.row, pick.purpose, promise, chance, expected, like, alike)
        proposal.words = self._words(proposal)
        return proposal

    def _words(self, proposal: Proposal) -> str:
        """What the pick is for, one sentence."""
        if not proposal.expected:
            return "explore: covers a part of the candidates of which nothing is measured."
        aims = [goal for goal in self.goals if goal.aim != CONDITION]
        chance = "" if proposal.chance is None else f"{proposal.chance:.0%} chance to"
        also = " and meet the conditions" if len(self.goals) > len(aims) else ""
        if len(aims) == 1:
            promise = f"{chance} beat the best measured{also}"
        elif len(aims) > 1:
            promise = "would widen the best trade-offs" + (f", {chance} meet the conditions" if also else "")
        else:
            promise = f"{chance} meet all goals"
        if proposal.purpose != EXPLORE:
            return f"exploit: {promise}."
        return f"explore: little is known here; {promise}."


def _number(cell: Any) -> tuple[float, int]:
    """(value or NaN, side) of a cell."""
    if cell is None:
        return math.nan, 0
    if isinstance(cell, str):
        found = read_number(cell)
        if found.value is None and cell.strip():
            raise DataError(f"'{cell}' is not a number, nor a bound such as '<-4.5'.")
        return (math.nan if found.value is None else found.value), found.side
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = math.inf
    if math.isinf(value):
        raise DataError(f"{cell!r:.80} is not a finite number, nor a bound such as '<-4.5'.")
    return value, 0
