"""A molecule for a language model: canonical SMILES, randomized SMILES of it, and its own features as side features."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
from torch import Tensor

from molecules.chemistry import parse, random_smiles
from molecules.featurisers import ECFP4, Descriptors
from reprogram.errors import DataError
from reprogram.inputs.text import Text, spaced
from reprogram.interfaces import Featuriser, Tap
from reprogram.ranges import Range

MOST_VIEWS = 64


@dataclass(eq=False)
class Smiles(Text):
    """Any SMILES in, the same answer for every way to write the molecule: it is canonicalised first.

    tokens: as for ``input=text``. views: a molecule, the canonical SMILES first, then randomized ones (Bjerrum
    2017, arXiv 1703.07076; Arús-Pous et al. 2019); let the output mapping average them (``output.average``). The randomized
    SMILES depend on the molecule alone, so that a program answers the same every time. features: ``ecfp4``,
    ``ecfp4_counts`` and ``descriptors`` make the program a hybrid. canonical: False reads
    the first view as it is written, to measure what the way of writing reveals (row ``as_written`` of the report).
    """

    views: Annotated[int, Range(1, MOST_VIEWS)] = 1
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

    def work(self) -> float:
        return super().work() * self.views

    def forward(self, batch: Sequence[str]) -> list[list[str]]:
        written = [randomized_smiles(smiles, self.views) for smiles in batch]
        if not self.canonical:
            written = [(smiles, *others[1:]) for smiles, others in zip(batch, written)]
        kinds = self.tokens.split("+")
        return [[spaced(row[i], kind) for row in written] for kind in kinds for i in range(self.views)]

    def side_features(self, batch: Sequence[str]) -> dict[Tap, Tensor]:
        return super().side_features([randomized_smiles(smiles, 1)[0] for smiles in batch])


@lru_cache(maxsize=20_000)
def randomized_smiles(smiles: str, count: int) -> tuple[str, ...]:
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
        others.append(random_smiles(mol, rng))
    return (canonical, *others)
