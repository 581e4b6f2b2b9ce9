"""Keep the pharmacophore, exchange decorations (``deco_hop``) or the scaffold (``scaffold_hop``)."""

from __future__ import annotations

from collections.abc import Callable

from molecules import chemistry
from molecules.chemistry import Mol
from molecules.oracles.base import Oracle
from molecules.oracles.pmo.parts import Part, PmoOracle, read, shaped
from molecules.pharmacophore import code_tanimoto, gobbi_codes
from molecules.transforms import Clipped

REFERENCE = "CCCOc1cc2ncnc(Nc3ccc4ncsc4c3)c2cc1S(=O)(=O)C(C)(C)C"
SCAFFOLD = "[#7]-c1n[c;h1]nc2[c;h1]c(-[#8])[c;h0][c;h1]c12"
DECORATIONS = ("CS([#6])(=O)=O", "[#7]-c1ccc2ncsc2c1")
CHAIN = "[#6]-[#6]-[#6]-[#8]-[#6]~[#6]~[#6]~[#6]~[#6]-[#7]-c1ccc2ncsc2c1"


def _pharmacophore() -> Part:
    target = gobbi_codes(read(REFERENCE))
    return lambda mol: code_tanimoto(gobbi_codes(mol), target)


def _has(pattern: str) -> Part:
    query = chemistry.smarts(pattern)
    return lambda mol: float(mol.HasSubstructMatch(query))


def _lacks(pattern: str) -> Part:
    has = _has(pattern)
    return lambda mol: 1.0 - has(mol)


def _mean(parts: list[Part]) -> Callable[[Mol], float]:
    return lambda mol: sum(part(mol) for part in parts) / len(parts)


def deco_hop() -> Oracle:
    """Change the decorations of a kinase inhibitor, keep its scaffold."""
    similar = shaped(_pharmacophore(), Clipped(0.85))
    return PmoOracle("deco_hop", _mean([similar, *map(_lacks, DECORATIONS), _has(SCAFFOLD)]))


def scaffold_hop() -> Oracle:
    """Change the scaffold of a kinase inhibitor, keep its decorations."""
    similar = shaped(_pharmacophore(), Clipped(0.75))
    return PmoOracle("scaffold_hop", _mean([similar, _has(CHAIN), _lacks(SCAFFOLD)]))


ORACLES = {"deco_hop": deco_hop, "scaffold_hop": scaffold_hop}
