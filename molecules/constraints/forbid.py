"""Substructures that must be absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.constraints.base import Constraint, Required


@dataclass
class Forbid(Constraint):
    """The molecule holds none of these substructures (SMARTS)."""

    patterns: Sequence[str]
    name: str = "forbid"

    def __post_init__(self) -> None:
        self.patterns = [self.patterns] if isinstance(self.patterns, str) else self.patterns
        self.queries = [chemistry.smarts(p, "constraints.forbid") for p in self.patterns]

    def conflict(self, required: Required) -> str:
        if required.mol is not None:
            bad = [p for p, q in zip(self.patterns, self.queries) if required.mol.HasSubstructMatch(q)]
            if bad:
                return f"{required.text} must stay and holds forbidden {bad[0]}"
        return f"{required.pattern} is both kept and forbidden" if required.pattern in self.patterns else ""

    def violation(self, mol: Mol) -> float:
        return float(sum(mol.HasSubstructMatch(q) for q in self.queries))
