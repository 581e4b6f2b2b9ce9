"""Genetic proposals screened by a Gaussian process: only promising offspring are evaluated.

Several inner generations are bred and ranked by the surrogate alone; a batch of the best is then evaluated.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal

import numpy as np

from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.base import Search
from molecules.search.genetic import PATIENCE, Population
from molecules.search.model.acquisition import choose
from molecules.search.model.features import Features
from molecules.search.model.history import History, SurrogateModel
from molecules.search.model.tanimoto_gp import TanimotoGP
from molecules.search.operators.library import default_library
from molecules.search.operators.offspring import Child, Offspring
from molecules.search.operators.regroup import locked
from reprogram.ranges import Amount, Count, Range, Share

FROM_POOL = 0.4  # share of parents that are candidates which were not evaluated
PLATEAU = 100  # molecules with one and the same score after which the search stops looking near them
SLACK = 0.1  # a candidate that misses the constraints by no more may have children, but is never evaluated


@dataclass
class Screened(Search):
    """A search whose candidates are ranked by a Gaussian process before any is evaluated.

    population: parents come from this many of the best. batch, candidates: molecules evaluated in a round and bred for
    each of them, early (below 300 calls), later (below 1,000) and after that. generations: inner rounds of breeding.
    points: (best, latest, random) evaluated molecules that the surrogate is fitted on. pool: candidates kept for the
    next round. niches: share of parents that are leaders of different clusters. patience: calls without a 1% gain of
    the top ten after which the search explores more. restart: calls after which it begins again from the start
    molecules and evaluates none of the others twice (0: never).
    """

    population: Annotated[int, Range(2, 10**7)] = 500
    batch: tuple[Count, Count, Count] = (20, 50, 100)
    candidates: tuple[Count, Count, Count] = (12, 8, 5)
    generations: Annotated[int, Range(1, 1000)] = 3
    points: tuple[Count, Amount, Amount] = (500, 200, 150)
    pool: Amount = 300
    niches: Share = 0.2
    patience: Amount = 300
    restart: Amount = 0

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        before = -1
        while len(evaluator.calls) > before:  # a pass that evaluated nothing found nothing new
            before = len(evaluator.calls)
            SurrogatePass(self, evaluator, rng, self.breeding(evaluator, Random(int(rng.integers(2**63))))).run(start)
            if not self.restart:
                return

    @abstractmethod
    def breeding(self, evaluator: Evaluator, random: Random) -> Breeding:
        """Where its candidates come from."""


@dataclass
class Surrogate(Screened):
    """Genetic search that evaluates only what a Gaussian process expects to be good.

    max_atoms, max_rings: larger children are dropped. stereo: marks of the parents are dropped, kept where an edit leaves
    them alone, or varied. The other options are those of :class:`Screened`.
    """

    max_atoms: Count = 60
    max_rings: Amount = 8
    stereo: Literal["drop", "keep", "vary"] = "drop"

    def breeding(self, evaluator: Evaluator, random: Random) -> Breeding:
        sizes = self.max_atoms, self.max_rings
        scaffold = locked(evaluator.objective.constraints)
        return Breeding(self, evaluator, Offspring(random, default_library(), *sizes, self.stereo, scaffold))


class Breeding:
    """Where candidates come from: parents, edits, and what is new and nearly feasible among their children."""

    def __init__(self, options: Screened, evaluator: Evaluator, offspring: Offspring) -> None:
        self.options, self.evaluator, self.random, self.offspring = options, evaluator, offspring.random, offspring
        self.population = Population(options.population, self.random)
        self.leaders: list[str] = []
        self.niches = options.niches  # share of parents that are leaders of clusters

    def draw(self) -> str:
        if self.random.random() < self.niches:
            return self.random.choice(self.leaders)
        return self.population.draw()

    def draw_from(self, names: list[str], upper: np.ndarray) -> Callable[[], str]:
        """Parents from the most promising candidates (``upper``: their upper confidence bounds) and from the evaluated."""
        best = [names[i] for i in np.argsort(-upper, kind="stable")[:50]]

        def draw() -> str:
            if self.random.random() < FROM_POOL:
                rank = int(math.exp(self.random.random() * math.log(len(best) + 1))) - 1
                return best[min(rank, len(best) - 1)]
            return self.draw()

        return draw

    def children(self, draw: Callable[[], str], count: int, pool: dict[str, Child], slack: float) -> list[Child]:
        """``count`` children of parents that ``draw`` gives, with at most ``slack`` of violation."""
        return self._collect(lambda: self.child_of(draw), count, pool, slack)

    def child_of(self, draw: Callable[[], str]) -> Child | None:
        """One child of a parent that ``draw`` gives; None if the edit did not work out."""
        return self.offspring.child(draw(), draw)

    def assembled(self, count: int) -> list[Child]:
        """Feasible molecules put together from common pieces."""
        return self._without_slow(self._collect(self.offspring.assemble, count, {}, 0.0))

    def feasible_children(self, draw: Callable[[], str], count: int) -> list[Child]:
        """Children that satisfy every constraint."""
        return self._without_slow(self.children(draw, count, {}, 0.0))

    def _without_slow(self, children: list[Child]) -> list[Child]:
        constraints = self.evaluator.objective.constraints
        return [c for c in children if constraints.slow_total(c.mol) == 0]

    def reward(self, batch: list[Child], scored: list[Scored]) -> None:
        bar = self.population.bar
        self.offspring.reward([(c.edit, s.rank > bar) for c, s in zip(batch, scored)])

    def _collect(
        self, make: Callable[[], Child | None], count: int, pool: dict[str, Child], slack: float
    ) -> list[Child]:
        """Up to ``count`` molecules that are neither evaluated nor in the pool and miss the quick constraints by at most
        ``slack``."""
        constraints = self.evaluator.objective.constraints
        seen: set[str] = set()
        made: list[Child] = []
        for _ in range(10 * count):
            child = make()
            if child is None or child.smiles in seen or child.smiles in pool or self.evaluator.known(child.smiles):
                continue
            seen.add(child.smiles)
            violation = constraints.quick_total(child.mol, slack)
            if violation <= slack:
                made.append(child._replace(violation=violation))
            if len(made) == count:
                break
        return made


class SurrogatePass:
    """One pass of the search: breed, rank by the model, evaluate the chosen, learn."""

    def __init__(self, options: Screened, evaluator: Evaluator, rng: np.random.Generator, breeding: Breeding) -> None:
        self.options, self.evaluator, self.rng, self.breeding = options, evaluator, rng, breeding
        self.random = breeding.random
        self.history = History()
        self.model = SurrogateModel(options.points, rng)
        self.pool: list[Child] = []
        self.pool_features = Features.of([], ())
        self.start: list[str] = []

    def run(self, start: list[Scored]) -> None:
        self.start = [s.smiles for s in start]
        self._learn(start)
        idle, last = 0, len(self.history) + (self.options.restart or self.evaluator.left)
        while idle < PATIENCE and len(self.history) < last:
            batch = self._propose()
            idle = 0 if batch else idle + 1
            if batch:
                scored = self.evaluator.score([c.smiles for c in batch], [c.parent for c in batch])
                if not self.history.flat:
                    self.breeding.reward(batch, scored)
                self._learn(scored)
                if len(self.history):
                    self.model.calibrate(self.history.values(), len(scored))

    @property
    def stage(self) -> int:
        """Which entry of the settings by calls applies: below 300, below 1,000, after that."""
        return 0 if len(self.history) < 300 else 1 if len(self.history) < 1_000 else 2

    @property
    def stuck(self) -> bool:
        """No gain of 1% for a while."""
        return len(self.history) - self.history.best_at > self.options.patience

    def _learn(self, scored: list[Scored]) -> None:
        known = [s for s in scored if s.call and not math.isnan(s.score)]
        if not known:
            return  # every oracle call of this batch failed
        self.history.add(known)
        self.breeding.population.add(known)
        self.history.note_gain(float(np.mean([s.score for s in self.breeding.population.members[:10]])))
        self.breeding.leaders = self.history.leaders(self.options.population)
        self.breeding.niches = self.options.niches * (2 if self.stuck else 1)

    def _propose(self) -> list[Child]:
        self.model.forget_expected()
        if self.history.flat:
            return self._without_model()
        fitted = self.model.fit(self.history)
        batch = self.options.batch[self.stage]
        children, means, stds, features = self._bred(fitted, batch * self.options.candidates[self.stage])
        count = min(batch, max(self.evaluator.left, 1))
        chosen = self._chosen(children, means, stds, count)
        order = np.argsort(-(means + self.model.trust * stds), kind="stable")
        kept = order[~np.isin(order, chosen)][: self.options.pool]
        self.model.expected = means[chosen], stds[chosen]
        self.pool, self.pool_features = [children[i] for i in kept], features.take(kept)
        return [children[i] for i in chosen]

    def _chosen(self, children: list[Child], means: np.ndarray, stds: np.ndarray, count: int) -> list[int]:
        """Candidates to evaluate. Slow constraints are asked about these alone; one that violates them is marked, and
        another takes its place."""
        constraints = self.breeding.evaluator.objective.constraints
        ready = np.array([c.violation == 0 for c in children], dtype=bool)
        weight = (2.0 if self.stuck else 1.0) * self.model.trust
        passed: set[int] = set()
        while True:
            chosen = choose(means, stds, ready, count, weight, self.stuck, self.rng)
            violations = {i: constraints.slow_total(children[i].mol) for i in chosen if i not in passed}
            for i, violation in violations.items():
                children[i] = children[i]._replace(violation=violation)
                ready[i] = violation == 0
            passed |= set(violations)
            if not any(violations.values()):
                return chosen

    def _bred(self, fitted: TanimotoGP, wanted: int) -> tuple[list[Child], np.ndarray, np.ndarray, Features]:
        """The pool and about ``wanted`` new candidates, with what the model expects of each, and their features."""
        kinds = fitted.kernel.kinds()
        if set(self.pool_features.fingerprints) != set(kinds):
            self.pool_features = Features.of([c.mol for c in self.pool], kinds)
        pool, features = {c.smiles: c for c in self.pool}, self.pool_features
        means, stds = _expected(fitted, self.pool, features)
        for inner in range(self.options.generations):
            draw = self.breeding.draw
            if inner > 0 and pool:
                draw = self.breeding.draw_from(list(pool), means + self.model.trust * stds)
            new = self.breeding.children(draw, max(wanted // self.options.generations, 1), pool, SLACK)
            rows = Features.of([c.mol for c in new], kinds)
            mean, std = _expected(fitted, new, rows)
            means, stds = np.concatenate([means, mean]), np.concatenate([stds, std])
            features = features.joined(rows)
            pool.update((c.smiles, c) for c in new)
        return list(pool.values()), means, stds, features

    def _without_model(self) -> list[Child]:
        """Random children; on a plateau molecules assembled from common pieces, where they are feasible.

        Of 400 hidden fragments of drugs (11 to 18 atoms, none in the start molecules), 2,000 assembled molecules contain
        34, as many children of children chosen for new structure 20.
        """
        batch = self.options.batch[self.stage]
        assembled = self.breeding.assembled(batch) if len(self.history) >= PLATEAU else []
        known = [s.smiles for s in self.history.scored] or self.start
        return assembled or self.breeding.feasible_children(lambda: self.random.choice(known), batch)


def _expected(fitted: TanimotoGP, children: list[Child], features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each child; one that misses the constraints by ``SLACK`` loses the standard
    deviation of all values."""
    mean, std = fitted.predict(features)
    missed = np.array([c.violation for c in children])
    return mean - missed / SLACK * fitted.scale, std
