"""Molecules as ECFP4 bits: the structural parts that they share of all they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from molecules.featurisers import ECFP4
from reprogram.applicability.base import BitSets
from reprogram.interfaces import SourceOutput


@dataclass
class Fingerprints(BitSets):
    """2,048 folded Morgan bits of radius 2 (256 bytes a molecule)."""

    similarity: ClassVar[str] = "tanimoto"
    kinds: ClassVar[tuple[str, ...]] = ("molecule",)

    def sketch(self, batch: Sequence[str], outputs: list[SourceOutput]) -> np.ndarray:
        return np.packbits(ECFP4()(batch).astype(bool), axis=1)
