"""RDKit properties: QED, logP, SA, NP-likeness, TPSA and any RDKit descriptor by name."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rdkit.Chem import QED, Descriptors, RDConfig, rdMolDescriptors

from molecules.chemistry import Mol
from molecules.oracles.base import MAXIMISE, MoleculeOracle
from reprogram.errors import ConfigError, nearest


def _contrib(folder: str, module: str) -> Any:
    """SA_Score and NP_Score ship in RDKit's Contrib folder, outside the package."""
    from importlib import import_module

    path = os.path.join(RDConfig.RDContribDir, folder)
    if path not in sys.path:
        sys.path.append(path)
    return import_module(module)


def sa_score(mol: Mol) -> float:
    """Synthetic accessibility, 1 (easy) to 10 (hard) (Ertl & Schuffenhauer 2009)."""
    return _contrib("SA_Score", "sascorer").calculateScore(mol)


@lru_cache(maxsize=1)
def _natural_products() -> tuple[Any, Any]:
    """RDKit's own reader and its own bundled model; its chatter is kept off the terminal."""
    module = _contrib("NP_Score", "npscorer")
    with redirect_stderr(io.StringIO()):
        return module, module.readNPModel()


def np_likeness(mol: Mol) -> float:
    """Natural-product likeness, about -5 (synthetic) to 5 (natural) (Ertl, Roggo & Schuffenhauer 2008)."""
    module, model = _natural_products()
    return module.scoreMol(mol, model)


SHORT: dict[str, Callable[[Mol], float]] = {
    "qed": QED.qed,
    "logp": lambda mol: rdMolDescriptors.CalcCrippenDescriptors(mol)[0],
    "sa": sa_score,
    "np_likeness": np_likeness,
    "tpsa": rdMolDescriptors.CalcTPSA,
    "mw": rdMolDescriptors._CalcMolWt,
    "hba": rdMolDescriptors.CalcNumHBA,
    "hbd": rdMolDescriptors.CalcNumHBD,
    "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds,
    "rings": rdMolDescriptors.CalcNumRings,
    "fsp3": rdMolDescriptors.CalcFractionCSP3,
    "heavy_atoms": lambda mol: mol.GetNumHeavyAtoms(),
}
RANGES = {"qed": (0.0, 1.0), "sa": (1.0, 10.0), "fsp3": (0.0, 1.0)}


@lru_cache(maxsize=1)
def _by_name() -> dict[str, Callable[[Mol], float]]:
    return {**dict(Descriptors.descList), **SHORT}


def descriptor(name: str) -> Callable[[Mol], float]:
    """A short name of this module or any name of ``rdkit.Chem.Descriptors.descList``."""
    known = _by_name()
    if name not in known:
        raise ConfigError(f"There is no descriptor '{name}'; {nearest(name, known)}.")
    return known[name]


@dataclass
class Descriptor(MoleculeOracle):
    """One RDKit property as an oracle. ``direction`` ``min`` asks for small values."""

    descriptor: str
    direction: str = MAXIMISE
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or self.descriptor
        self.range = RANGES.get(self.descriptor, (-math.inf, math.inf))
        self._function = descriptor(self.descriptor)

    def value(self, mol: Mol) -> float:
        return self._function(mol)
