"""A molecule for a language model: canonical SMILES, randomized SMILES of it, and its own features beside."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
from torch import Tensor

from molecules.chemistry import parse
from molecules.featurisers import ECFP4, Descriptors
from reprogram.errors import ConfigError, DataError
from reprogram.inputs.text import Text, spaced
from reprogram.interfaces import Featuriser, SourceSpec, Tap, TargetInfo
from reprogram.ranges import Range

MOST_VIEWS = 64


@dataclass(eq=False)
class Smiles(Text):
    """Any SMILES in, the same answer for every way to write the molecule: it is canonicalised first.

    tokens: as for ``input=text``. views: a molecule, the canonical SMILES first, then randomized ones (Bjerrum
    2017, arXiv 1703.07076; Arús-Pous et al. 2019); let the output mapping average them (``output.average``). The randomized
    SMILES depend on the molecule alone, so that a program answers the same every time. features: ``ecfp4``,
    ``ecfp4_counts`` and ``descriptors`` make the program a hybrid. canonical: False reads
    the first view as it is written, to measure what handwriting tells (row ``as_written`` of the report).
    """

    views: Annotated[int, Range(1, 1000)] = 1
    canonical: bool = True

    known: ClassVar[dict[str, Featuriser]] = {
        "ecfp4": ECFP4(),
        "ecfp4_counts": ECFP4(counts=True),
        "descriptors": Descriptors(),
    }

    reads: ClassVar[str | None] = "molecule"

    def read(self, item: Any) -> str:
        """A SMILES, or an RDKit molecule as its canonical SMILES."""
        if hasattr(item, "GetNumAtoms"):
            from rdkit import Chem

            item = Chem.MolToSmiles(item)
        text = super().read(item)
        mol = parse(text)
        if mol is None or mol.GetNumAtoms() == 0:
            raise DataError(f"'{text}' is not a SMILES that RDKit can parse")
        return text

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if not 1 <= self.views <= MOST_VIEWS:
            raise ConfigError(f"input.views={self.views} must be between 1 and {MOST_VIEWS}.")

    def work(self) -> float:
        return super().work() * self.views

    def forward(self, batch: Sequence[str]) -> list[list[str]]:
        written = [spell(smiles, self.views) for smiles in batch]
        if not self.canonical:
            written = [(smiles, *others[1:]) for smiles, others in zip(batch, written)]
        kinds = self.tokens.split("+")
        return [[spaced(row[i], kind) for row in written] for kind in kinds for i in range(self.views)]

    def side_features(self, batch: Sequence[str]) -> dict[Tap, Tensor]:
        return super().side_features([spell(smiles, 1)[0] for smiles in batch])


@lru_cache(maxsize=20_000)
def spell(smiles: str, count: int) -> tuple[str, ...]:
    """The canonical SMILES and ``count`` - 1 random ones, the same however the molecule is written."""
    from rdkit import Chem

    mol = parse(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        raise DataError(f"'{smiles}' is not a SMILES that RDKit can parse.")
    canonical = Chem.MolToSmiles(mol)
    mol = Chem.MolFromSmiles(canonical)
    rng = np.random.default_rng(zlib.crc32(canonical.encode()))
    others = []
    for _ in range(count - 1):
        order = [int(i) for i in rng.permutation(mol.GetNumAtoms())]
        others.append(Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False))
    return (canonical, *others)
