"""The 20 oracles of the Practical Molecular Optimization benchmark that RDKit alone can compute, as published.

Gao, Fu, Sun & Coley 2022 (arXiv 2206.12411), in the definitions of TDC, which follow GuacaMol (Brown et al. 2019).
DRD2, GSK3B and JNK3 need classifier files that today's scikit-learn cannot read, and are left out.
One file a family; every file offers ``ORACLES``: name -> function that makes the oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from molecules.oracles.base import Oracle
from reprogram.errors import ConfigError, nearest


@lru_cache(maxsize=1)
def oracles() -> dict[str, Callable[[], Oracle]]:
    """Name -> maker, in the benchmark's alphabetical order."""
    from molecules.oracles.descriptor import Descriptor
    from molecules.oracles.pmo import hops, isomers, medians, mpo, rediscovery, similarities, valsartan

    found: dict[str, Callable[[], Oracle]] = {"qed": lambda: Descriptor("qed")}
    for family in (hops, isomers, medians, mpo, rediscovery, similarities, valsartan):
        found.update(family.ORACLES)
    return dict(sorted(found.items()))


def pmo(name: str) -> Oracle:
    """A PMO oracle by its published name, e.g. ``zaleplon_mpo``."""
    if name not in oracles():
        raise ConfigError(f"There is no PMO oracle '{name}'; {nearest(name, oracles())}.")
    return oracles()[name]()
