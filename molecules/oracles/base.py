"""What a molecule is worth: the interface of every oracle."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from molecules.chemistry import Mol, parse
from reprogram.ranges import Checked

MAXIMISE, MINIMISE = "max", "min"


class Answer(NamedTuple):
    """One molecule's value, NaN where there is none, with the ``reason``. std: its standard deviation, 0 if unknown."""

    value: float
    reason: str = ""
    std: float = 0.0


class Oracle(Checked, ABC):
    """Scores canonical SMILES.

    name: shown in tables and used as key of the raw value.
    range: lowest and highest value that can occur (``math.inf`` where it is open).
    direction: ``"max"`` if more is better, ``"min"`` if less is.
    batch: molecules that it takes at once, for instance in one start of a program.
    """

    name: str
    range: tuple[float, float] = (-math.inf, math.inf)
    direction: str = MAXIMISE
    batch: int = 1

    @property
    def isolated(self) -> bool:
        """Does it run code of somebody else in this process, which may end it (a crash of a compiled library)?"""
        return not type(self).__module__.startswith("molecules.")

    @abstractmethod
    def answers(self, smiles: Sequence[str]) -> list[Answer]:
        """One :class:`Answer` a SMILES, in order. Must not raise for a bad molecule."""

    def score(self, smiles: Sequence[str]) -> np.ndarray:
        """Values as float [N]; NaN for a molecule that failed."""
        return np.array([answer.value for answer in self.answers(smiles)], dtype=float)


class MoleculeOracle(Oracle):
    """An oracle that is a plain function of one RDKit molecule; an exception costs that molecule alone."""

    fails: ClassVar[tuple[type[Exception], ...]] = (Exception,)

    @abstractmethod
    def value(self, mol: Mol) -> float:
        """The value of one parsed molecule."""

    def answers(self, smiles: Sequence[str]) -> list[Answer]:
        return [self._answer(text) for text in smiles]

    def _answer(self, text: str) -> Answer:
        mol = parse(text)
        if mol is None:
            return Answer(math.nan, "not a SMILES that RDKit can parse")
        try:
            value = float(self.value(mol))
        except self.fails as error:
            return Answer(math.nan, f"{type(error).__name__}: {error}".splitlines()[0])
        return Answer(value, "" if math.isfinite(value) else f"{self.name} is {value}")
