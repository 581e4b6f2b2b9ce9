"""Graph genetic algorithm: crossover and mutation of molecular graphs, parents drawn by log-uniform rank.

The operators are Jensen's (2019); parents are drawn so that every power of ten of ranks is as likely as the next, the
rank-quantile idea of Mol GA (Tripp & Hernández-Lobato, arXiv 2310.09267).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal

import numpy as np

from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.base import Search
from molecules.search.operators.library import default_library
from molecules.search.operators.offspring import Child, Offspring
from molecules.search.operators.regroup import locked
from reprogram.ranges import Amount, Count, Range

PATIENCE = 100  # rounds without a new molecule before the search gives up


@dataclass
class Genetic(Search):
    """Steady-state genetic algorithm over everything that was evaluated.

    population: parents come from this many of the best. batch: molecules evaluated in a round.
    max_atoms, max_rings: larger children are dropped (parents may be larger). stereo: marks of the parents are dropped, kept
    where an edit leaves them alone, or varied.
    """

    population: Annotated[int, Range(2, 10**7)] = 500
    batch: Count = 10
    max_atoms: Count = 60
    max_rings: Amount = 8
    stereo: Literal["drop", "keep", "vary"] = "drop"

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        random = Random(int(rng.integers(2**63)))
        scaffold = locked(evaluator.objective.constraints)
        offspring = Offspring(random, default_library(), self.max_atoms, self.max_rings, self.stereo, scaffold)
        population = Population(self.population, random)
        population.add(start)
        idle = 0
        while idle < PATIENCE:
            children = breed(evaluator, offspring, population.draw, self.batch)
            idle = 0 if children else idle + 1
            if children:
                scored = evaluator.score([c.smiles for c in children], [c.parent for c in children])
                bar = population.bar
                offspring.reward([(c.edit, s.rank > bar) for c, s in zip(children, scored)])
                population.add(scored)


class Population:
    """The best evaluated molecules, best first, and draws from them by log-uniform rank."""

    def __init__(self, size: int, random: Random) -> None:
        self.size, self.random = size, random
        self._ranked: list[tuple[tuple[float, float], int, Scored]] = []  # the call number settles ties

    def add(self, scored: list[Scored]) -> None:
        merged = [*self._ranked, *((s.rank, -s.call, s) for s in scored)]
        self._ranked = sorted(merged, key=lambda row: row[:2], reverse=True)[: self.size]

    @property
    def members(self) -> list[Scored]:
        return [scored for _, _, scored in self._ranked]

    @property
    def bar(self) -> tuple[float, float]:
        """A child that ranks above this counts as a success of its edit: the 50th best so far."""
        return self._ranked[min(49, len(self._ranked) - 1)][0]

    def draw(self) -> str:
        rank = int(math.exp(self.random.random() * math.log(len(self._ranked) + 1))) - 1
        return self._ranked[min(rank, len(self._ranked) - 1)][2].smiles


def breed(evaluator: Evaluator, offspring: Offspring, draw: Callable[[], str], count: int, tries: int = 30) -> list[Child]:
    """Up to ``count`` new, feasible children."""
    made: dict[str, Child] = {}
    for _ in range(tries * count):
        child = offspring.child(draw(), draw)
        if child is not None and child.smiles not in made and not evaluator.known(child.smiles):
            made[child.smiles] = child
        if len(made) == count:
            break
    return feasible(evaluator, made.values())


def feasible(evaluator: Evaluator, children: Iterable[Child], slack: float = 0.0) -> list[Child]:
    """Those that miss the constraints by no more than ``slack``, each with how far it misses them."""
    constraints = evaluator.objective.constraints
    if not constraints.items:
        return list(children)
    judged = [c._replace(violation=constraints.total(c.mol, slack)) for c in children]
    return [c for c in judged if c.violation <= slack]
