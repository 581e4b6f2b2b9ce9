"""Similarity to a known drug, full marks from 0.75 on: pharmacophoric Morgan counts, or atom pairs."""

from __future__ import annotations

from functools import partial

from molecules.oracles.base import Oracle
from molecules.oracles.pmo.parts import PmoOracle, shaped, target_similarity
from molecules.transforms import Clipped

TARGETS = {
    "albuterol_similarity": ("CC(C)(C)NCC(O)c1ccc(O)c(CO)c1", "fcfp4"),
    "mestranol_similarity": ("COc1ccc2[C@H]3CC[C@@]4(C)[C@@H](CC[C@@]4(O)C#C)[C@@H]3CCc2c1", "ap"),
}


def _make(name: str) -> Oracle:
    return PmoOracle(name, shaped(target_similarity(*TARGETS[name]), Clipped(0.75)))


ORACLES = {name: partial(_make, name) for name in TARGETS}
