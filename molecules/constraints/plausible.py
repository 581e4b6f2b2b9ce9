"""Structures that cannot exist."""

from __future__ import annotations

from dataclasses import dataclass

from molecules.chemistry import Mol
from molecules.constraints.base import Constraint
from molecules.strain import impossible_rings


@dataclass
class Plausible(Constraint):
    """Nothing that cannot exist: strained bridged aromatic rings, anti-Bredt double bonds, arynes, small-ring cumulenes and
    alkynes, antiaromatic small rings. What is rare or reactive is a matter of ``Precedent`` and ``Unstable``."""

    name: str = "plausible"

    def reasons(self, mol: Mol) -> list[str]:
        return impossible_rings(mol)

    def violation(self, mol: Mol) -> float:
        return float(len(impossible_rings(mol)))
