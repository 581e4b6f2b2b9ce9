"""A range of one property."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from rdkit.Chem import rdMolDescriptors

from molecules.chemistry import Mol
from molecules.constraints.base import Constraint, Required
from molecules.oracles.descriptor import descriptor
from reprogram.errors import ConfigError


@dataclass
class Window(Constraint):
    """An RDKit property between ``low`` and ``high`` (either may be open): molecular weight, SA score, any descriptor.

    The violation is relative to the size of the limit.
    """

    descriptor: str
    low: float | None = None
    high: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or self.descriptor
        self._function = descriptor(self.descriptor)
        wrong = [end for end in (self.low, self.high) if end is not None and not isinstance(end, Real)]
        if wrong:
            raise ConfigError(f"constraint {self.name} has the limit {wrong[0]!r}; it must be a number, or None.")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigError(
                f"constraint {self.name} asks for at least {self.low} and at most {self.high}: no molecule."
            )

    def conflict(self, required: Required) -> str:
        if required.mol is None or self.descriptor not in ("MolWt", "mw") or self.high is None:
            return ""
        weight = rdMolDescriptors._CalcMolWt(required.mol, onlyHeavy=True)
        if weight <= self.high:
            return ""
        return f"{required.text} must stay and weighs {weight:.0f}, more than {self.name} allows ({self.high})"

    def reasons(self, mol: Mol) -> list[str]:
        if self.violation(mol) == 0:
            return []
        ends = [f"{word} {end:g}" for word, end in (("at least", self.low), ("at most", self.high)) if end is not None]
        return [f"{self.name} {self._function(mol):.3g}, not {' and '.join(ends)}"]

    def violation(self, mol: Mol) -> float:
        value = self._function(mol)
        if not math.isfinite(value):
            return 1.0
        below = 0.0 if self.low is None else max(self.low - value, 0.0) / max(abs(self.low), 1.0)
        above = 0.0 if self.high is None else max(value - self.high, 0.0) / max(abs(self.high), 1.0)
        return below + above
