"""Sequences as the set of their short substrings, hashed to bits: what they share of all they have."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from reprogram.applicability.base import BitSets
from reprogram.interfaces import SourceOutput

LONGEST, BITS = 3, 4096


@dataclass
class KMerSets(BitSets):
    """Substrings of one to three letters in 4,096 bits (512 bytes); long sequences fill them and look more alike."""

    similarity: ClassVar[str] = "kmers"
    kinds: ClassVar[tuple[str, ...]] = ("sequence",)

    def sketch(self, batch: Sequence[str], outputs: list[SourceOutput]) -> np.ndarray:
        bits = np.zeros((len(batch), BITS), dtype=bool)
        for row, text in enumerate(batch):
            parts = {text[i : i + k] for k in range(1, LONGEST + 1) for i in range(len(text) - k + 1)}
            bits[row, [zlib.crc32(part.encode("utf-8", "surrogatepass")) % BITS for part in parts]] = True
        return np.packbits(bits, axis=1)
