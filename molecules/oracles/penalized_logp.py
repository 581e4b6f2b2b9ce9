"""Penalized logP on its two published scales, which must not be compared with each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rdkit.Chem import rdMolDescriptors

from molecules.chemistry import Mol, largest_ring
from molecules.oracles.base import MoleculeOracle
from molecules.oracles.descriptor import sa_score


def _logp(mol: Mol) -> float:
    return rdMolDescriptors.CalcCrippenDescriptors(mol)[0]


@dataclass
class PenalizedLogP(MoleculeOracle):
    """Normalised form of Jin et al. 2019 (``props/properties.py``), each part in standard deviations of ZINC-250k:

    (logP - 2.457) / 1.434 + (-SA + 3.053) / 0.834 + (-max(largest ring - 6, 0) + 0.0486) / 0.286
    """

    name: str = "penalized_logp"

    def value(self, mol: Mol) -> float:
        logp = (_logp(mol) - 2.4570953396190123) / 1.434324401111988
        synthesis = (-sa_score(mol) + 3.0525811293166134) / 0.8335207024513095
        cycle = (-max(largest_ring(mol) - 6, 0) + 0.0485696876403053) / 0.2860212110245455
        return logp + synthesis + cycle


@dataclass
class RawPenalizedLogP(MoleculeOracle):
    """The form of IBM's QMO code and test file: Crippen logP - SA, no ring term, not normalised."""

    name: str = "raw_penalized_logp"
    range: tuple[float, float] = (-math.inf, math.inf)

    def value(self, mol: Mol) -> float:
        return _logp(mol) - sa_score(mol)
