"""Substructures that must be present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.constraints.base import Constraint, Required


@dataclass
class Keep(Constraint):
    """The molecule holds every one of these substructures (SMARTS)."""

    patterns: Sequence[str]
    name: str = "keep"

    def __post_init__(self) -> None:
        self.patterns = [self.patterns] if isinstance(self.patterns, str) else self.patterns
        self.queries = [chemistry.smarts(p, "constraints.keep") for p in self.patterns]

    def required(self) -> list[Required]:
        return [Required(f"substructure {p}", chemistry.parse(p), p) for p in self.patterns]

    def violation(self, mol: Mol) -> float:
        return float(sum(not mol.HasSubstructMatch(q) for q in self.queries))
