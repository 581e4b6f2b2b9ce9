"""Hit a molecular formula: Gaussians on every element's count (sigma 1) and on the number of atoms (sigma 2)."""

from __future__ import annotations

import re
from functools import partial

from molecules.chemistry import Mol, element_counts
from molecules.oracles.base import Oracle
from molecules.oracles.pmo.parts import Part, PmoOracle, geometric
from molecules.transforms import Gaussian

FORMULAS = {"isomers_c7h8n2o2": "C7H8N2O2", "isomers_c9h10n2o2pf2cl": "C9H10N2O2PF2Cl"}


def parse_formula(formula: str) -> dict[str, int]:
    """``C9H10Cl`` -> {"C": 9, "H": 10, "Cl": 1}."""
    return {element: int(count or 1) for element, count in re.findall(r"([A-Z][a-z]?)(\d*)", formula)}


def isomer(formula: str) -> Part:
    """Geometric mean over the formula's elements and the total number of atoms including hydrogen."""
    wanted = parse_formula(formula)
    shapes = {element: Gaussian(count, 1.0) for element, count in wanted.items()}
    total = Gaussian(sum(wanted.values()), 2.0)

    def score(mol: Mol) -> float:
        counts = element_counts(mol)
        values = [shape(counts.get(element, 0)) for element, shape in shapes.items()]
        return geometric([*values, total(sum(counts.values()))])

    return score


def _make(name: str) -> Oracle:
    return PmoOracle(name, isomer(FORMULAS[name]))


ORACLES = {name: partial(_make, name) for name in FORMULAS}
