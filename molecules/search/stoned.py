"""STONED: random edits of SELFIES strings, each of which is a valid molecule (Nigam et al., Chem. Sci. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from rdkit import Chem

from molecules import chemistry
from molecules.evaluator import Evaluator
from molecules.objective import Scored
from molecules.search.base import Search
from reprogram.ranges import Count, Range

PATIENCE = 200  # rounds without a single new molecule before the search gives up


@dataclass
class Stoned(Search):
    """Each round edits random SELFIES of the best molecules found.

    population: how many of the best are parents. batch: molecules evaluated in a round.
    edits: largest number of token edits (replace, insert, delete) made at once.
    """

    population: Count = 100
    batch: Count = 50
    edits: Annotated[int, Range(1, 1000)] = 3

    def explore(self, evaluator: Evaluator, start: list[Scored], rng: np.random.Generator) -> None:
        import selfies

        alphabet = sorted(selfies.get_semantic_robust_alphabet())
        population = list(start)
        idle = 0
        while idle < PATIENCE:
            children, parents = self._children(evaluator, population, alphabet, rng)
            idle = 0 if children else idle + 1
            if children:
                population += evaluator.score(children, parents)
                unique = {s.smiles: s for s in population}
                population = sorted(unique.values(), key=lambda s: s.rank, reverse=True)[: self.population]

    def _children(
        self, evaluator: Evaluator, population: list[Scored], alphabet: Sequence[str], rng: np.random.Generator
    ) -> tuple[list[str], list[str]]:
        made: dict[str, str] = {}
        for _ in range(20 * self.batch):
            parent = population[int(rng.integers(len(population)))]
            child = mutate(parent.smiles, 1 + int(rng.integers(self.edits)), alphabet, rng)
            if child is not None and child not in made and not evaluator.known(child):
                made[child] = parent.smiles
            if len(made) == self.batch:
                break
        inside = evaluator.violations(list(made)) == 0
        kept = [s for s, ok in zip(made, inside) if ok]
        return kept, [made[s] for s in kept]


def mutate(smiles: str, edits: int, alphabet: Sequence[str], rng: np.random.Generator) -> str | None:
    """A random SELFIES of the molecule with ``edits`` random token edits, as canonical SMILES; None if it is empty."""
    import selfies

    mol = chemistry.parse(smiles)
    if mol is None:
        return None
    try:
        tokens = list(selfies.split_selfies(selfies.encoder(chemistry.random_smiles(mol, rng))))
    except selfies.EncoderError:
        return None
    for _ in range(edits):
        at = int(rng.integers(len(tokens))) if tokens else 0
        kind = int(rng.integers(3))
        token = alphabet[int(rng.integers(len(alphabet)))]
        if kind == 0 or not tokens:
            tokens.insert(at, token)
        elif kind == 1:
            tokens[at] = token
        elif len(tokens) > 1:
            del tokens[at]
    child = chemistry.parse(selfies.decoder("".join(tokens)))
    if child is None or child.GetNumAtoms() == 0 or chemistry.is_radical(child):
        return None
    return chemistry.canonical(Chem.MolToSmiles(child))
