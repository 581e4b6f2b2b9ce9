"""Structural alerts of published catalogues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from molecules.chemistry import Mol
from molecules.constraints.base import Constraint
from reprogram.errors import ConfigError, nearest

CATALOGS = ("PAINS", "BRENK", "NIH")


@lru_cache(maxsize=8)
def _catalog(names: tuple[str, ...]) -> Any:
    from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

    params = FilterCatalogParams()
    for name in names:
        if name not in CATALOGS:
            raise ConfigError(f"There is no alert catalogue '{name}'; {nearest(name, CATALOGS)}.")
        params.AddCatalog(getattr(FilterCatalogParams.FilterCatalogs, name))
    return FilterCatalog(params)


@dataclass
class Alerts(Constraint):
    """No structural alert of the PAINS, BRENK or NIH catalogues."""

    catalogs: Sequence[str] = CATALOGS
    name: str = "alerts"
    cost: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        self.catalogs = (self.catalogs,) if isinstance(self.catalogs, str) else self.catalogs
        _catalog(tuple(self.catalogs))

    def hits(self, mol: Mol) -> list[str]:
        """Names of the alerts that the molecule carries."""
        return [match.GetDescription() for match in _catalog(tuple(self.catalogs)).GetMatches(mol)]

    def reasons(self, mol: Mol) -> list[str]:
        return [f"alert {name}" for name in self.hits(mol)]

    def violation(self, mol: Mol) -> float:
        return float(len(_catalog(tuple(self.catalogs)).GetMatches(mol)))
