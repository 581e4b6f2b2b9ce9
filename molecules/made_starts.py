"""Start molecules that are made: a scaffold with substituents, two parts with linkers, the usual replacements of an atom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

import numpy as np

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.replacements import replacements
from molecules.rgroups import points, put_together
from molecules.search.operators.library import default_library
from molecules.search.operators.regroup import drawn_group, drawn_linker
from molecules.starts import Source, StartRow
from reprogram.errors import ConfigError
from reprogram.ranges import Count, NotEmpty

TRIES = 30  # for each molecule that is asked for


@dataclass
class Decorated(Source):
    """``scaffold`` (SMILES with ``*``) with substituents of the library at its attachment points: ``count`` molecules."""

    scaffold: NotEmpty
    count: Count = 50
    origin = "start.scaffold"

    def __post_init__(self) -> None:
        self._locked = chemistry.locked_scaffold(self.scaffold, "start.scaffold")
        if not points(self._locked):
            raise ConfigError(f"start.scaffold '{self.scaffold}' has no attachment point *, so nothing can be added to it.")

    def rows(self, rng: np.random.Generator) -> Iterable[StartRow]:
        random, library = Random(int(rng.integers(2**63))), default_library()

        def make() -> str | None:
            groups = [drawn_group(number, library, random) for number, _ in enumerate(points(self._locked), 1)]
            return put_together(self._locked, groups)

        return _made(make, self.count, self.origin)


@dataclass
class Linked(Source):
    """Two parts ``linker`` = ``A|B``, each with one ``*``, joined by linkers: ``count`` molecules."""

    linker: NotEmpty
    count: Count = 50
    origin = "start.linker"

    def __post_init__(self) -> None:
        self._locked = two_parts(self.linker)

    def rows(self, rng: np.random.Generator) -> Iterable[StartRow]:
        random, library = Random(int(rng.integers(2**63))), default_library()
        return _made(lambda: put_together(self._locked, [drawn_linker(library, random)]), self.count, self.origin)


@dataclass
class Replaced(Source):
    """Quick SAR at one position: ``molecule`` with an atom map number on one atom, and the usual replacements there."""

    molecule: NotEmpty
    origin = "start.molecule"

    def rows(self, rng: np.random.Generator) -> Iterable[StartRow]:
        found = replacements(self.molecule)
        if len(found) == 1:
            raise ConfigError(
                f"start.molecule '{self.molecule}' has no usual replacement at the marked atom; mark the end of a chain, an "
                "atom between two others, or an aromatic atom with a hydrogen."
            )
        return [StartRow(name, smiles) for name, smiles in found]


def two_parts(text: str) -> Mol:
    """``A|B`` as a scaffold of two parts; ConfigError where it is not two molecules with one ``*`` each."""
    parts = text.split("|")
    if len(parts) != 2 or any(part.count("*") != 1 or "." in part for part in parts):
        raise ConfigError(f"start.linker '{text}' must be two SMILES with one * each: *c1ccccc1|*N1CCOCC1.")
    return chemistry.locked_scaffold(text, "start.linker")


def _made(make: Callable[[], str | None], count: int, key: str) -> list[StartRow]:
    """``count`` different molecules, fewer where there are not so many."""
    found: dict[str, None] = {}
    for _ in range(TRIES * count):
        if len(found) == count:
            break
        smiles = make()
        if smiles is not None:
            found[smiles] = None
    if not found:
        raise ConfigError(f"{key}: nothing can be attached there; every * needs a neighbour with a free valence.")
    return [StartRow(f"made {i}", smiles) for i, smiles in enumerate(found, 1)]
