"""Tuned GP-BO (Tripp and Hernandez-Lobato, arXiv 2406.07709), run again with the operators of this package.

ECFP6 counts, min-max kernel, mean 0, variance 1, noise 1e-4, nothing fitted; 10 start molecules, one call at a time; UCB with
beta log-uniform in .01 to 1, maximised by a genetic search that starts from 10,000 unscored molecules of ZINC-250k. What a
published run spends hours on is kept short: ``generations`` x ``offspring`` children are bred before each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix

from molecules import chemistry
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.base import Search
from molecules.search.genetic import Population
from molecules.search.model.count_gp import CountGP
from molecules.search.model.counts import CountRows
from molecules.search.operators.library import default_library
from molecules.search.operators.offspring import Child, Offspring
from molecules.starts import sample_zinc
from reprogram.ranges import Count


@dataclass
class GPBO(Search):
    """starting: start molecules. pool: unscored molecules. parents: with which the genetic search begins, of either kind."""

    starting: Count = 10
    pool: Count = 10_000
    parents: Count = 100
    generations: Count = 5
    offspring: Count = 30

    def first(self, evaluator: Evaluator, start: Sequence[str], rng: np.random.Generator) -> list[str]:
        return list(start)[: self.starting]

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        offspring = Offspring(Random(int(rng.integers(2**63))), default_library(), 60, 8)
        pool, gp = Pool(sample_zinc(self.pool, rng)), CountGP()
        found: list[Scored] = []
        new = start
        while True:
            rows = CountRows.of([chemistry.parse(s.smiles) for s in new])
            for row in range(len(rows)):
                gp.add(rows.take([row]))
                pool.learn(gp, rows.entries[row])
            found += new
            values = np.array([s.score for s in found])
            gp.observe(values)
            pool.observe(gp, values)
            beta = 10 ** rng.uniform(-2, 0)
            best = self._maximise(evaluator, gp, pool, found, beta, offspring)
            new = evaluator.score([best])

    def _maximise(
        self, evaluator: Evaluator, gp: CountGP, pool: Pool, found: list[Scored], beta: float, offspring: Offspring
    ) -> str:
        """The unscored molecule with the highest bound that the genetic search finds."""
        bounds = pool.bounds(beta)
        ranked = {pool.smiles[i]: float(bounds[i]) for i in np.argsort(-bounds)[: self.parents]}
        best = sorted(found, key=lambda s: -s.score)[: self.parents]
        mols = [chemistry.parse(s.smiles) for s in best]
        ranked |= dict(zip([s.smiles for s in best], self._bound(gp, CountRows.of(mols), beta).tolist()))
        population = Population(2 * self.parents, offspring.random)
        population.add([Scored(s, v) for s, v in ranked.items()])
        for _ in range(self.generations):
            drawn = (offspring.child(population.draw(), population.draw) for _ in range(2 * self.offspring))
            made: dict[str, Child] = {c.smiles: c for c in drawn if c is not None and c.smiles not in ranked}
            children = list(made.values())[: self.offspring]
            if not children:
                continue
            values = self._bound(gp, CountRows.of([c.mol for c in children]), beta)
            scored = {c.smiles: float(v) for c, v in zip(children, values)}
            population.add([Scored(s, v) for s, v in scored.items()])
            ranked |= scored
        return max((s for s in ranked if not evaluator.known(s)), key=lambda s: ranked[s])

    def _bound(self, gp: CountGP, rows: CountRows, beta: float) -> np.ndarray:
        means, stds = gp.predict(rows)
        return np.asarray(means + beta * stds)


class Pool:
    """Unscored molecules, with the part of their posterior that follows from each evaluated one kept."""

    def __init__(self, smiles: list[str]) -> None:
        self.smiles = smiles
        rows = CountRows.of([chemistry.parse(s) for s in smiles])
        self._columns: dict[int, int] = {}
        places = [[self._columns.setdefault(e, len(self._columns)) for e in entries] for entries in rows.entries]
        self._sizes = np.array([len(p) for p in places], dtype=float)
        flat, ends = np.concatenate(places).astype(np.int32), np.cumsum([0, *map(len, places)])
        self._entries = csr_matrix((np.ones(len(flat), np.float32), flat, ends), shape=(len(smiles), len(self._columns)))
        self._whitened = np.zeros((0, len(smiles)))
        self._variance, self._means = np.ones(len(smiles)), np.zeros(len(smiles))

    def learn(self, gp: CountGP, entries: list[int]) -> None:
        """The molecule that ``gp`` learned last."""
        marked = np.zeros(len(self._columns), np.float32)
        marked[[self._columns[e] for e in entries if e in self._columns]] = 1
        shared = (self._entries @ marked).astype(float)
        cross = shared / (self._sizes + len(entries) - shared)
        row = gp.factor[-1]
        white = (cross - row[:-1] @ self._whitened[: len(row) - 1]) / row[-1]
        if len(row) > len(self._whitened):
            self._whitened = np.vstack([self._whitened, np.zeros((256, len(self.smiles)))])
        self._whitened[len(row) - 1] = white
        self._variance -= white**2

    def observe(self, gp: CountGP, values: np.ndarray) -> None:
        """values: float [len(gp)], of all that ``gp`` learned."""
        self._means = solve_triangular(gp.factor, values, lower=True) @ self._whitened[: len(gp)]

    def bounds(self, beta: float) -> np.ndarray:
        """Upper confidence bound of each molecule, float [N]."""
        return np.asarray(self._means + beta * np.sqrt(np.maximum(self._variance, 1e-9)))
