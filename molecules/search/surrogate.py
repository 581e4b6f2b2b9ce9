"""Genetic proposals screened by a Gaussian process, so that only promising offspring are paid for.

Several inner generations are bred and ranked by the surrogate alone; a batch of the best is then paid for, one
candidate at a time by mean + |N(0, 1)| x standard deviation, so that a batch holds safe and bold bets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Annotated

import numpy as np

from molecules import chemistry
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.base import Search
from molecules.search.features import Features
from molecules.search.fit_values import to_fit
from molecules.search.gaussian_process import CANDIDATES, KINDS, GaussianProcess, Kernel, best_kernel
from molecules.search.genetic import PATIENCE, Population, allowed
from molecules.search.library import default_library
from molecules.search.operators import Breeder, Child
from reprogram.ranges import Amount, Count, Range, Share

ALL_KINDS = (*KINDS, "ap")
RESELECT = 1.6  # the kernel is chosen again each time that the number of paid molecules has grown by this factor
FROM_POOL = 0.4  # share of parents that are unpaid candidates themselves
BLIND = 0.3  # share of a batch that is drawn at random while the search is stuck
PLATEAU = 100  # molecules with one and the same score after which the search stops looking near them
SELECT_ON = 400  # points used to choose it
SLACK = 0.1  # a candidate that misses the constraints by no more may have children, but is never paid for


@dataclass
class Surrogate(Search):
    """Genetic search that pays only for what a Gaussian process expects to be good.

    population: parents come from this many of the best. batch, candidates: molecules paid for in a round and bred for
    each of them, early (below 300 calls), later (below 1,000) and after that. generations: inner rounds of breeding.
    points: (best, latest, random) paid molecules that the surrogate is fitted on. pool: unpaid candidates kept for
    the next round. niches: share of parents that are leaders of different clusters. patience: calls without a 1% gain
    of the top ten after which the search explores more. restart: calls after which it begins anew from the start
    molecules and pays for none of the others twice (0: never). max_atoms, max_rings: larger children are dropped.
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
    max_atoms: Count = 60
    max_rings: Amount = 8

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        paid = -1
        while len(evaluator.calls) > paid:  # a run that paid for nothing found nothing new
            paid = len(evaluator.calls)
            Run(self, evaluator, rng).go(start)
            if not self.restart:
                return


class Run:
    """The state of one search: everything paid for with its features, the pool, the kernel."""

    def __init__(self, options: Surrogate, evaluator: Evaluator, rng: np.random.Generator) -> None:
        self.options, self.evaluator, self.rng = options, evaluator, rng
        self.random = Random(int(rng.integers(2**63)))
        self.breeder = Breeder(self.random, default_library(), options.max_atoms, options.max_rings)
        self.population = Population(options.population, self.random)
        self.paid: list[Scored] = []
        self.features = Features.of([], ALL_KINDS).compact()
        self.kernel: Kernel | None = None
        self.selected_at = 0
        self.pool: list[Child] = []
        self.pool_features = Features.of([], ())
        self.leaders: list[str] = []
        self.best_mean, self.best_at = -math.inf, 0
        self.start: list[str] = []
        self.expected = np.zeros(0), np.zeros(0)  # mean and standard deviation of the batch in hand
        self.trust = 1.0  # how large the surrogate's real errors are, in its own standard deviations

    def go(self, start: list[Scored]) -> None:
        self.start = [s.smiles for s in start]
        self._learn(start)
        idle, last = 0, len(self.paid) + (self.options.restart or self.evaluator.left)
        while idle < PATIENCE and len(self.paid) < last:
            batch = self._propose()
            idle = 0 if batch else idle + 1
            if batch:
                paid = self.evaluator.score([c.smiles for c in batch], [c.parent for c in batch])
                if not self.flat:
                    bar = self.population.bar
                    self.breeder.reward([(c.edit, s.rank > bar) for c, s in zip(batch, paid)])
                self._learn(paid)
                self._calibrate(paid)

    def _calibrate(self, paid: list[Scored]) -> None:
        """Compare the expectations of the last batch with what was paid for."""
        if len(self.expected[0]) != len(paid):
            return
        values = to_fit(np.array([s.score for s in self.paid]), np.array([s.violation for s in self.paid]))
        mean, spread = self.expected
        error = (values[-len(paid) :] - mean) / spread
        rms = float(np.sqrt(np.median(error**2)) / 0.674)  # robust: a few total failures are normal
        self.trust = float(np.clip(0.7 * self.trust + 0.3 * rms, 0.1, 1.5))

    @property
    def stage(self) -> int:
        return 0 if len(self.paid) < 300 else 1 if len(self.paid) < 1_000 else 2

    @property
    def stuck(self) -> bool:
        """No gain of 1% for a while."""
        return len(self.paid) - self.best_at > self.options.patience

    def _learn(self, scored: list[Scored]) -> None:
        known = [s for s in scored if s.call and not math.isnan(s.score)]
        if not known:
            return  # every oracle call of this batch failed
        self.paid += known
        self.population.add(known)
        mols = [m for m in (chemistry.parse(s.smiles) for s in known) if m is not None]
        self.features = self.features.joined(Features.of(mols, ALL_KINDS).compact())
        top = float(np.mean([s.score for s in self.population.members[:10]]))
        if top > self.best_mean + 0.01 * abs(self.best_mean) or math.isinf(self.best_mean):
            self.best_mean, self.best_at = top, len(self.paid)
        self._find_leaders()

    def _find_leaders(self) -> None:
        """Up to 20 of the best that are less than 0.5 similar to each other (sphere exclusion)."""
        order = np.argsort([-s.score for s in self.paid], kind="stable")[: self.options.population]
        prints = self.features.take(order, ["ecfp4"]).fingerprints["ecfp4"]
        taken: list[int] = []
        covered = np.zeros(len(order), dtype=bool)
        while len(taken) < 20 and not covered.all():
            first = int(np.argmin(covered))
            taken.append(first)
            covered |= chemistry.tanimoto(prints[first : first + 1], prints)[0] >= 0.5
            covered[first] = True
        self.leaders = [self.paid[order[i]].smiles for i in taken]

    def _draw(self) -> str:
        share = self.options.niches * (2 if self.stuck else 1)
        if self.random.random() < share:
            return self.random.choice(self.leaders)
        return self.population.draw()

    def _fit(self) -> GaussianProcess:
        scores = np.array([s.score for s in self.paid])
        violations = np.array([s.violation for s in self.paid])
        values = to_fit(scores, violations)
        best, latest, any_ = self.options.points
        order = np.argsort(-values, kind="stable")
        rows = {*order[:best].tolist(), *range(max(len(values) - latest, 0), len(values))}
        rest = np.setdiff1d(np.arange(len(values)), np.fromiter(rows, int))
        rows |= set(self.rng.permutation(rest)[:any_].tolist())
        chosen = np.array(sorted(rows))
        if self.kernel is None or len(self.paid) >= RESELECT * self.selected_at:
            subset = chosen[np.argsort(-values[chosen], kind="stable")[:SELECT_ON]]
            self.kernel = best_kernel(self.features.take(subset), values[subset], CANDIDATES)
            self.selected_at = len(self.paid)
        return GaussianProcess(self.kernel).fit(self.features.take(chosen, self.kernel.kinds()), values[chosen])

    @property
    def flat(self) -> bool:
        """Nothing to learn from yet: no molecule was scored, or all have the same score."""
        return len({(s.score, s.violation) for s in self.paid}) < 2

    def _propose(self) -> list[Child]:
        self.expected = np.zeros(0), np.zeros(0)
        if self.flat:
            return self._explore_blindly()
        model = self._fit()
        batch = self.options.batch[self.stage]
        wanted = batch * self.options.candidates[self.stage]
        if set(self.pool_features.fingerprints) != set(model.kernel.kinds()):
            self.pool_features = Features.of([c.mol for c in self.pool], model.kernel.kinds())
        pool, features = {c.smiles: c for c in self.pool}, self.pool_features
        means, spreads = self._expect(model, self.pool, features)
        for inner in range(self.options.generations):
            draw = self._draw if inner == 0 or not pool else self._mixed_draw(list(pool), means + self.trust * spreads)
            new = self._breed(draw, max(wanted // self.options.generations, 1), pool, SLACK)
            rows = Features.of([c.mol for c in new], model.kernel.kinds())
            mean, spread = self._expect(model, new, rows)
            means, spreads = np.concatenate([means, mean]), np.concatenate([spreads, spread])
            features = features.joined(rows)
            pool.update((c.smiles, c) for c in new)
        children = list(pool.values())
        payable = np.array([c.violation == 0 for c in children], dtype=bool)
        chosen, kept = self._choose(means, spreads, payable, min(batch, max(self.evaluator.left, 1)))
        self.expected = means[chosen], spreads[chosen]
        self.pool, self.pool_features = [children[i] for i in kept], features.take(kept)
        return [children[i] for i in chosen]

    def _expect(
        self, model: GaussianProcess, children: list[Child], features: Features
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each child; one that misses the constraints by ``SLACK`` loses one spread."""
        mean, spread = model.predict(features)
        missed = np.array([c.violation for c in children])
        return mean - missed / SLACK * model.spread, spread

    def _explore_blindly(self) -> list[Child]:
        """Random children; on a plateau molecules assembled from common pieces, where they are allowed.

        Of 400 hidden fragments of drugs (11 to 18 atoms, none in the start molecules), 2,000 assembled molecules meet
        34, as many children of children chosen for new structure 20.
        """
        batch = self.options.batch[self.stage]
        strangers = self._collect(self.breeder.stranger, batch, {}, 0.0) if len(self.paid) >= PLATEAU else []
        known = [s.smiles for s in self.paid] or self.start
        return strangers or self._breed(lambda: self.random.choice(known), batch, {}, 0.0)

    def _mixed_draw(self, names: list[str], upper: np.ndarray) -> Callable[[], str]:
        """Parents from the most promising unpaid candidates and from the paid ones."""
        best = [names[i] for i in np.argsort(-upper, kind="stable")[:50]]

        def draw() -> str:
            if self.random.random() < FROM_POOL:
                rank = int(math.exp(self.random.random() * math.log(len(best) + 1))) - 1
                return best[min(rank, len(best) - 1)]
            return self._draw()

        return draw

    def _breed(self, draw: Callable[[], str], count: int, pool: dict[str, Child], slack: float) -> list[Child]:
        return self._collect(lambda: self.breeder.child(draw(), draw), count, pool, slack)

    def _collect(
        self, make: Callable[[], Child | None], count: int, pool: dict[str, Child], slack: float
    ) -> list[Child]:
        """Up to ``count`` new, unpaid molecules that are not in the pool and miss the constraints by at most ``slack``."""
        made: dict[str, Child] = {}
        for _ in range(10 * count):
            child = make()
            if child is None or child.smiles in made or child.smiles in pool or self.evaluator.known(child.smiles):
                continue
            made[child.smiles] = child
            if len(made) == count:
                break
        return allowed(self.evaluator, made.values(), slack)

    def _choose(
        self, means: np.ndarray, spreads: np.ndarray, payable: np.ndarray, count: int
    ) -> tuple[list[int], np.ndarray]:
        """Rows to pay for now, of those that are payable, and rows to keep for the next round."""
        free, rows = payable.copy(), np.flatnonzero(payable)
        chosen: list[int] = []
        boldness = (2.0 if self.stuck else 1.0) * self.trust
        blind = int(self.stuck * BLIND * count)  # where the surrogate leads nowhere, chance has its share
        for at in self.rng.permutation(rows)[:blind].tolist():
            chosen.append(at)
            free[at] = False
        for _ in range(min(count, len(rows)) - len(chosen)):
            value = np.where(free, means + boldness * abs(self.rng.standard_normal()) * spreads, -np.inf)
            chosen.append(int(value.argmax()))
            free[chosen[-1]] = False
        order = np.argsort(-(means + self.trust * spreads), kind="stable")
        return chosen, order[~np.isin(order, chosen)][: self.options.pool]
