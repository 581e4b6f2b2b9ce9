"""Find a known drug again: ECFP4 count similarity to it."""

from __future__ import annotations

from functools import partial

from molecules.oracles.base import Oracle
from molecules.oracles.pmo.parts import PmoOracle, target_similarity

TARGETS = {
    "celecoxib_rediscovery": "CC1=CC=C(C=C1)C1=CC(=NN1C1=CC=C(C=C1)S(N)(=O)=O)C(F)(F)F",
    "troglitazone_rediscovery": "Cc1c(C)c2OC(C)(COc3ccc(CC4SC(=O)NC4=O)cc3)CCc2c(C)c1O",
    "thiothixene_rediscovery": "CN(C)S(=O)(=O)c1ccc2Sc3ccccc3C(=CCCN4CCN(C)CC4)c2c1",
}


def _make(name: str) -> Oracle:
    return PmoOracle(name, target_similarity(TARGETS[name], "ecfp4"))


ORACLES = {name: partial(_make, name) for name in TARGETS}
