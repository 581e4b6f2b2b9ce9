"""Multi-property objectives around a drug: similarity to it and properties that it does not have (GuacaMol MPO)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rdkit.Chem import rdMolDescriptors

from molecules.chemistry import Mol, element_counts
from molecules.oracles.base import Oracle
from molecules.oracles.pmo.isomers import isomer
from molecules.oracles.pmo.parts import Part, PmoOracle, geometric_mean, read, shaped, target_similarity
from molecules.transforms import Clipped, Gaussian

OSIMERTINIB = "COc1cc(N(C)CCN(C)C)c(NC(=O)C=C)cc1Nc2nccc(n2)c3cn(C)c4ccccc34"
FEXOFENADINE = "CC(C)(C(=O)O)c1ccc(cc1)C(O)CCCN2CCC(CC2)C(O)(c3ccccc3)c4ccccc4"
RANOLAZINE = "COc1ccccc1OCC(O)CN2CCN(CC(=O)Nc3c(C)cccc3C)CC2"
PERINDOPRIL = "O=C(OCC)C(NC(C(=O)N1C(C(=O)O)CC2CCCCC12)C)CCC"
AMLODIPINE = r"Clc1ccccc1C2C(=C(/N/C(=C2/C(=O)OCC)COCCN)C)\C(=O)OC"
SITAGLIPTIN = "Fc1cc(c(F)cc1F)CC(N)CC(=O)N3Cc2nnc(n2CC3)C(F)(F)F"
ZALEPLON = "O=C(C)N(CC)C1=CC=CC(C2=CC=NC3=C(C=NN23)C#N)=C1"


def tpsa(mol: Mol) -> float:
    """Topological polar surface area in Å²."""
    return rdMolDescriptors.CalcTPSA(mol)


def logp(mol: Mol) -> float:
    """Wildman–Crippen logP."""
    return rdMolDescriptors.CalcCrippenDescriptors(mol)[0]


def fluorines(mol: Mol) -> float:
    """How many fluorine atoms."""
    return float(element_counts(mol).get("F", 0))


def osimertinib() -> Part:
    """``osimertinib_mpo``."""
    return geometric_mean(
        shaped(tpsa, Gaussian(100, 10, "max")),
        shaped(logp, Gaussian(1, 1, "min")),
        shaped(target_similarity(OSIMERTINIB, "fcfp4"), Clipped(0.8)),
        shaped(target_similarity(OSIMERTINIB, "ecfp6"), Gaussian(0.85, 0.1, "min")),
    )


def fexofenadine() -> Part:
    """``fexofenadine_mpo``."""
    return geometric_mean(
        shaped(tpsa, Gaussian(90, 10, "max")),
        shaped(logp, Gaussian(4, 1, "min")),
        shaped(target_similarity(FEXOFENADINE, "ap"), Clipped(0.8)),
    )


def ranolazine() -> Part:
    """``ranolazine_mpo``."""
    return geometric_mean(
        shaped(tpsa, Gaussian(95, 20, "max")),
        shaped(logp, Gaussian(7, 1, "max")),
        shaped(target_similarity(RANOLAZINE, "ap"), Clipped(0.7)),
        shaped(fluorines, Gaussian(1, 1)),
    )


def perindopril() -> Part:
    """``perindopril_mpo``."""
    return geometric_mean(
        target_similarity(PERINDOPRIL, "ecfp4"), shaped(rdMolDescriptors.CalcNumAromaticRings, Gaussian(2, 0.5))
    )


def amlodipine() -> Part:
    """``amlodipine_mpo``."""
    return geometric_mean(
        target_similarity(AMLODIPINE, "ecfp4"), shaped(rdMolDescriptors.CalcNumRings, Gaussian(3, 0.5))
    )


def sitagliptin() -> Part:
    """Its properties and formula, but not its structure."""
    own = read(SITAGLIPTIN)
    return geometric_mean(
        shaped(target_similarity(SITAGLIPTIN, "ecfp4"), Gaussian(0, 0.1)),
        shaped(logp, Gaussian(logp(own), 0.2)),
        shaped(tpsa, Gaussian(tpsa(own), 5)),
        isomer("C16H15F6N5O"),
    )


def zaleplon() -> Part:
    """Close to zaleplon, with one more carbon and two more hydrogens."""
    return geometric_mean(target_similarity(ZALEPLON, "ecfp4"), isomer("C19H17N3O2"))


PARTS: dict[str, Callable[[], Part]] = {
    f"{f.__name__}_mpo": f
    for f in (osimertinib, fexofenadine, ranolazine, perindopril, amlodipine, sitagliptin, zaleplon)
}


def _make(name: str) -> Oracle:
    return PmoOracle(name, PARTS[name]())


ORACLES = {name: partial(_make, name) for name in PARTS}
