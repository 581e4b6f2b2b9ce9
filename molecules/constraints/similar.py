"""A least similarity to the start molecules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.constraints.base import Constraint
from reprogram.errors import ConfigError, DataError


@dataclass
class Similar(Constraint):
    """Tanimoto similarity to a start molecule of at least ``threshold`` (the nearest of several counts).

    The default fingerprint (ECFP4, 2,048 bits) is the one of the paired-optimization tasks.
    """

    to: str | Sequence[str]
    threshold: float = 0.4
    kind: str = "ecfp4"
    name: str = "similarity"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"similarity threshold is {self.threshold}; it must lie between 0 and 1.")
        texts = [self.to] if isinstance(self.to, str) else list(self.to)
        if not texts:
            raise ConfigError("constraints.similarity needs start molecules to compare with; give start=.")
        mols = [chemistry.parse(text) for text in texts]
        for text, mol in zip(texts, mols):
            if mol is None:
                raise DataError(f"similarity reference '{text}' is not a SMILES that RDKit can parse.")
        self._references = [chemistry.bit_fingerprint(mol, self.kind) for mol in mols if mol is not None]

    def similarity(self, mol: Mol) -> float:
        """Tanimoto to the nearest reference."""
        return float(chemistry.similarity(chemistry.bit_fingerprint(mol, self.kind), self._references).max())

    def violation(self, mol: Mol) -> float:
        return max(self.threshold - self.similarity(mol), 0.0)
