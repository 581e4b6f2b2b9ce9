"""A fragment of valsartan with the properties of sitagliptin; exactly 0 until the fragment is there."""

from __future__ import annotations

from rdkit.Chem import GraphDescriptors

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.oracles.base import Oracle
from molecules.oracles.pmo.mpo import SITAGLIPTIN, logp, tpsa
from molecules.oracles.pmo.parts import PmoOracle, geometric_mean, read, shaped
from molecules.transforms import Gaussian

FRAGMENT = "CN(C=O)Cc1ccc(c2ccccc2)cc1"


def valsartan_smarts() -> Oracle:
    """Geometric mean of the fragment (0 or 1) and three Gaussians at the own values of sitagliptin."""
    own, fragment = read(SITAGLIPTIN), chemistry.smarts(FRAGMENT)
    bertz = GraphDescriptors.BertzCT
    properties = geometric_mean(
        lambda mol: 1.0,
        shaped(tpsa, Gaussian(tpsa(own), 5)),
        shaped(logp, Gaussian(logp(own), 0.2)),
        shaped(bertz, Gaussian(bertz(own), 30)),
    )

    def score(mol: Mol) -> float:
        return properties(mol) if mol.HasSubstructMatch(fragment) else 0.0

    return PmoOracle("valsartan_smarts", score)


ORACLES = {"valsartan_smarts": valsartan_smarts}
