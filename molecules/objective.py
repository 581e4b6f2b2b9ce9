"""What a design run maximises: oracles, transforms, an aggregate; and under which constraints.

Every :class:`Scored` holds raw and transformed values, and both can be recomputed from the SMILES.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from molecules.chemistry import parse
from molecules.constraints import Constraints
from molecules.oracles.base import MAXIMISE, MINIMISE, Answer, Oracle
from molecules.transforms import Identity, Transform
from reprogram.errors import ConfigError
from reprogram.ranges import Checked, NotNegative

AGGREGATES = ("geometric", "arithmetic", "hinge")


@dataclass
class Scored:
    """A molecule that was evaluated.

    smiles: canonical. score: the aggregate, NaN if an oracle failed (``reason`` says why).
    raw / parts: by term name, as the oracle answered / after the transform.
    constraints: violation by constraint name, 0 where it holds.
    call: number of the counted call (from 1). parent: the molecule it was made from, where the search knows it.
    told: what else the search knows of it, such as a route: columns of the tables, by name.
    """

    smiles: str
    score: float
    raw: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    constraints: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    call: int = 0
    parent: str = ""
    told: dict[str, str] = field(default_factory=dict)

    @property
    def violation(self) -> float:
        return sum(self.constraints.values())

    @property
    def feasible(self) -> bool:
        """Scored without failure, and every constraint holds."""
        return not math.isnan(self.score) and self.violation == 0

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key, larger is better: feasible molecules first and by score, the others by their violation."""
        return (-self.violation, -math.inf if math.isnan(self.score) else self.score)

    @property
    def listed(self) -> tuple[bool, tuple[float, float]]:
        """Sort key of tables, larger is better: by :attr:`rank`, and molecules without a score after all others."""
        return (not math.isnan(self.score), self.rank)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scored:
        known = {k: data[k] for k in cls.__dataclass_fields__ if k in data}
        known["score"] = math.nan if known.get("score") is None else float(known["score"])
        return cls(**known)


def best_of(scored: Sequence[Scored], count: int) -> list[Scored]:
    """Feasible molecules first, best first; those without a score last."""
    return sorted(scored, key=lambda s: s.listed, reverse=True)[:count]


@dataclass
class Term(Checked):
    """One oracle in the objective.

    weight: its share of the mean (or its lambda in the hinge form).
    confidence_bound: coefficient k of the confidence bound: an uncertain oracle counts as mean - k * std, or as
        mean + k * std where small is good.
    at_least: hinge form only; the term is then a condition f >= at_least and costs weight * max(at_least - f, 0).
    """

    oracle: Oracle
    transform: Transform = field(default_factory=Identity)
    weight: NotNegative = 1.0
    confidence_bound: NotNegative = 0.0
    at_least: float | None = None

    @property
    def name(self) -> str:
        return self.oracle.name

    def bound(self, answer: Answer) -> float:
        """The value that counts: the mean, or its pessimistic confidence bound."""
        sign = 1.0 if self.oracle.direction == MINIMISE else -1.0
        return answer.value + sign * self.confidence_bound * answer.std


@dataclass
class Objective:
    """Weighted mean of transformed oracles, or QMO's hinge form, under constraints.

    ``geometric``: prod(part^w)^(1/sum w); ``arithmetic``: sum(w part) / sum w;
    ``hinge`` (QMO, arXiv 2011.01921, Eq. 2): sum_j w_j g_j - sum_i w_i max(tau_i - f_i, 0).
    """

    terms: Sequence[Term]
    constraints: Constraints = field(default_factory=Constraints)
    aggregate: str = "geometric"
    name: str = ""

    def __post_init__(self) -> None:
        if not self.terms:
            raise ConfigError("objective has no terms; give at least one oracle.")
        if self.aggregate not in AGGREGATES:
            raise ConfigError(f"objective.aggregate is '{self.aggregate}'; allowed: {', '.join(AGGREGATES)}.")
        for term in self.terms:
            _check_term(term)
        names = [t.name for t in self.terms]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ConfigError(f"two terms of the objective are named '{twice}'; give one oracle another name.")
        if any(t.weight <= 0 for t in self.terms):
            raise ConfigError("weights of objective terms must be positive.")
        if self.aggregate != "hinge" and any(t.at_least is not None for t in self.terms):
            raise ConfigError("at_least belongs to objective.aggregate=hinge.")
        self.name = self.name or " · ".join(names)

    @classmethod
    def of(cls, oracle: Oracle, constraints: Constraints | None = None) -> Objective:
        """A single oracle as it is; one that should be small is turned around."""
        transform: Transform = Negated() if oracle.direction == MINIMISE else Identity()
        return cls([Term(oracle, transform)], constraints or Constraints(), "arithmetic", oracle.name)

    @property
    def batch(self) -> int:
        """Molecules that its oracles take at once."""
        return max(term.oracle.batch for term in self.terms)

    @property
    def isolated(self) -> bool:
        """Does one of its oracles run code that may end its process?"""
        return any(term.oracle.isolated for term in self.terms)

    def violations(self, smiles: Sequence[str]) -> np.ndarray:
        """Total violation of the constraints, [N], without any oracle call; inf for what cannot be parsed."""
        if not self.constraints.items:
            return np.array([0.0 if parse(text) is not None else math.inf for text in smiles])
        return np.array([math.inf if (m := parse(text)) is None else self.constraints.total(m) for text in smiles])

    def score(self, smiles: Sequence[str]) -> list[Scored]:
        """Score canonical SMILES; every term's oracle is asked once for the whole list."""
        answers = [_answers(term.oracle, smiles) for term in self.terms]
        return [self._scored(text, [column[i] for column in answers]) for i, text in enumerate(smiles)]

    def _scored(self, smiles: str, answers: list[Answer]) -> Scored:
        raw = {t.name: a.value for t, a in zip(self.terms, answers)}
        reason = "; ".join(f"{t.name}: {a.reason}" for t, a in zip(self.terms, answers) if a.reason)
        mol = parse(smiles)
        violations = {} if mol is None else self.constraints.violations(mol)
        parts = {t.name: t.transform(t.bound(a)) for t, a in zip(self.terms, answers)}
        score = self.combine(parts)
        if not math.isfinite(score) and not reason:
            reason = "score is not a number"
        return Scored(smiles, score if math.isfinite(score) else math.nan, raw, parts, violations, reason)

    def explains(self, answer: Any) -> bool:
        """Can an answer of a journal be this objective's: the same terms, transforms and weights?"""
        told = answer if isinstance(answer, Mapping) else {}
        raw, parts, broken = (told[key] if told.get(key) is not None else {} for key in ("raw", "parts", "constraints"))
        if not all(isinstance(part, Mapping) for part in (raw, parts, broken)):
            return False
        if not {t.name for t in self.terms} == set(raw) == set(parts):
            return False
        figures = (*raw.values(), *parts.values(), *broken.values(), told.get("score"))
        if not all(isinstance(value, int | float) and abs(value) <= sys.float_info.max for value in figures):
            return False
        pairs = [(t.transform(raw[t.name]), parts[t.name]) for t in self.terms if not t.confidence_bound]
        return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in [*pairs, (self.combine(parts), answer["score"])])

    def combine(self, parts: dict[str, float]) -> float:
        """The aggregate of transformed values; NaN if any of them is."""
        values = np.array([parts[t.name] for t in self.terms], dtype=float)
        weights = np.array([t.weight for t in self.terms], dtype=float)
        if np.isnan(values).any():
            return math.nan
        if self.aggregate == "arithmetic":
            return float(weights @ values / weights.sum())
        if self.aggregate == "hinge":
            return float(sum(_hinge(t, v) for t, v in zip(self.terms, values)))
        if (values <= 0).any():
            return 0.0
        return float(np.exp(weights @ np.log(values) / weights.sum()))


def _check_term(term: Term) -> None:
    oracle = term.oracle
    if not isinstance(oracle, Oracle):
        raise ConfigError(f"the oracle of a term is {oracle!r:.80}; it must be an oracle, as load_oracle('qed') gives one.")
    if oracle.direction not in (MAXIMISE, MINIMISE):  # any other word would be maximised, "minimize" too
        raise ConfigError(f"oracle.direction={oracle.direction} of {oracle.name} is not known; allowed: max, min.")
    if oracle.direction == MINIMISE and type(term.transform) is Identity:  # it would be maximised
        raise ConfigError(
            f"the term {term.name} should be small (direction=min) and has no transform; give it one that falls, such as "
            "ReverseSigmoid."
        )


def _answers(oracle: Oracle, smiles: Sequence[str]) -> list[Answer]:
    """One for each molecule; with more or fewer of them nobody could tell whose they are."""
    answers = list(oracle.answers(smiles))
    if len(answers) != len(smiles) or not all(isinstance(answer, Answer) for answer in answers):
        raise ValueError(f"{oracle.name}.answers() must give one Answer for each of {len(smiles)} molecules")
    return answers


@dataclass
class Negated(Transform):
    """For an oracle that should be small: minus the value."""

    def of(self, value: float) -> float:
        return -value


def _hinge(term: Term, value: float) -> float:
    return term.weight * value if term.at_least is None else -term.weight * max(term.at_least - value, 0.0)


def pareto(values: np.ndarray) -> np.ndarray:
    """Which rows of [N, K] values (larger is better) no other row dominates: bool [N]; of equal rows all or none."""
    import moocore

    return np.asarray(moocore.is_nondominated(values, maximise=True, keep_weakly=True), dtype=bool)


def hypervolume(values: np.ndarray, reference: Sequence[float]) -> float:
    """Volume that rows of [N, K] (larger is better) dominate above the reference point."""
    import moocore

    return float(moocore.hypervolume(values, ref=np.asarray(reference, dtype=float), maximise=True))
