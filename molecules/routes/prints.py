"""Fingerprints of many molecules, compared with one by counting shared bits. Made at first use: a stock is large."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from molecules import chemistry

BITS = 512
OF_BYTE = np.array([f"{i:b}".count("1") for i in range(256)], dtype=np.uint8)


class Prints:
    """Counted fragments of two bonds of each molecule of ``names``, folded to 512 bits."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.row = {name: i for i, name in enumerate(self.names)}
        self._bits = np.zeros((len(self.names), BITS // 64), dtype=np.uint64)
        self._sizes = np.zeros(len(self.names), dtype=np.int32)  # 0: not made yet

    def similarity(self, smiles: str, rows: np.ndarray) -> np.ndarray:
        """Tanimoto of a molecule to those of ``rows`` (int [N]): float [N]; 0 where it cannot be parsed."""
        own = packed(smiles)
        if own is None:
            return np.zeros(len(rows))
        for i in rows[self._sizes[rows] == 0].tolist():
            made = packed(self.names[i])
            assert made is not None  # it is in the stock
            self._bits[i], self._sizes[i] = made, max(int(_ones(made).sum()), 1)
        shared = _ones(self._bits[rows] & own).sum(1)
        return shared / (self._sizes[rows] + int(_ones(own).sum()) - shared)


def packed(smiles: str) -> np.ndarray | None:
    """uint64 [8]; None where it cannot be parsed."""
    mol = chemistry.parse(smiles)
    if mol is None:
        return None
    bits = chemistry.generator("ecfp4", BITS, True).GetFingerprintAsNumPy(mol)
    return np.packbits(bits).view(np.uint64)


def _ones(words: np.ndarray) -> np.ndarray:
    """Bits that are set: of each word, or of each byte before NumPy 2."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words).astype(np.int32)
    return OF_BYTE[words.view(np.uint8)].astype(np.int32)
