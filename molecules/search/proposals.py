"""Analogues sampled from a frozen decoder as the mutations of an evolutionary search.

The frozen model proposes changes that a medicinal chemist would make; the scores select among them. Each parent is read as
a randomized SMILES, which makes its analogues more diverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from molecules import chemistry
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.base import Search
from molecules.search.latent import readable
from molecules.spaces.base import Decoded, Memory, Space
from reprogram.ranges import Count, Range

PATIENCE = 10  # rounds without a new feasible molecule before the search gives up


@dataclass
class Proposals(Search):
    """population: best molecules that may be parents. parents / samples: of a round, and analogues of each.

    temperature: of sampling. batch: most molecules evaluated in a round, the likeliest analogues first.
    """

    space: Space
    population: Count = 50
    parents: Annotated[int, Range(1, 10_000)] = 5
    samples: Annotated[int, Range(1, 10_000)] = 16
    temperature: Annotated[float, Range(0, 100, open=True)] = 1.0
    batch: Count = 25

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        population = readable(self.space, start)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        idle = 0
        while idle < PATIENCE:
            parents = [population[i] for i in ranks(len(population), self.parents, rng)]
            written = [self.rewrite(p.smiles, rng) for p in parents]
            drawn = self.space.decode(self.memory(written, self.samples), self.temperature, generator)
            children = self.choose(evaluator, [p.smiles for p in parents], drawn)
            idle = 0 if children else idle + 1
            if children:
                scored = evaluator.score(list(children), list(children.values()))
                fresh = {s.smiles: s for s in [*population, *scored] if self.space.unreadable(s.smiles) is None}
                population = sorted(fresh.values(), key=lambda s: s.rank, reverse=True)[: self.population]

    def choose(self, evaluator: Evaluator, parents: list[str], drawn: Decoded) -> dict[str, str]:
        """New feasible molecules -> the parent of each; likeliest first, at most a batch."""
        found: dict[str, str] = {}
        for row in drawn.log_probability.argsort(descending=True).tolist():
            key = chemistry.canonical(drawn.smiles[row] or "")
            if key is not None and key not in found and not evaluator.known(key):
                found[key] = parents[row // self.samples]
        inside = evaluator.violations(list(found)) == 0
        kept = [key for key, ok in zip(found, inside) if ok and whole(key)]
        return {key: found[key] for key in kept[: self.batch]}

    def memory(self, written: list[str], samples: Annotated[int, Range(1, 10_000)]) -> Memory:
        """What the decoder looks at: every parent ``samples`` times."""
        return self.space.encode(written).rows(np.repeat(np.arange(len(written)), samples))

    def rewrite(self, smiles: str, rng: np.random.Generator) -> str:
        """In a random atom order, where the space can still read that."""
        mol = chemistry.parse(smiles)
        assert mol is not None  # it was evaluated
        written = chemistry.random_smiles(mol, rng)
        return written if self.space.unreadable(written) is None else smiles


def ranks(size: int, count: int, rng: np.random.Generator) -> list[int]:
    """``count`` ranks below ``size``, log-uniform: the best are drawn most often."""
    return [int(size ** rng.random()) - 1 for _ in range(count)]


def whole(smiles: str) -> bool:
    """One component without unpaired electrons."""
    mol = chemistry.parse(smiles)
    return mol is not None and "." not in smiles and not chemistry.is_radical(mol)
