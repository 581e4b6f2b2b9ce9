"""Between two molecules: geometric mean of the count similarities to both."""

from __future__ import annotations

from functools import partial

from molecules.oracles.base import Oracle
from molecules.oracles.pmo.parts import PmoOracle, geometric_mean, target_similarity

PAIRS = {
    "median1": ("CC1(C)C2CCC1(C)C(=O)C2", "CC(C)C1CCC(C)CC1O", "ecfp4"),  # camphor, menthol
    "median2": (  # tadalafil, sildenafil
        "O=C1N(CC(N2C1CC3=C(C2C4=CC5=C(OCO5)C=C4)NC6=C3C=CC=C6)=O)C",
        "CCCC1=NN(C2=C1N=C(NC2=O)C3=C(C=CC(=C3)S(=O)(=O)N4CCN(CC4)C)OCC)C",
        "ecfp6",
    ),
}


def _make(name: str) -> Oracle:
    first, second, kind = PAIRS[name]
    return PmoOracle(name, geometric_mean(target_similarity(first, kind), target_similarity(second, kind)))


ORACLES = {name: partial(_make, name) for name in PAIRS}
