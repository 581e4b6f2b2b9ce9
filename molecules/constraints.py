"""What every kept molecule must satisfy, apart from the score and free of charge.

A constraint answers with a *violation*: 0 where it holds, growing with the distance to it, so that a search can walk
back into the allowed region.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from rdkit.Chem import rdMolDescriptors

from molecules import chemistry
from molecules.chemistry import Mol
from reprogram.errors import ConfigError, DataError, nearest


class Constraint(ABC):
    """One condition on a molecule."""

    name: str

    @abstractmethod
    def violation(self, mol: Mol) -> float:
        """0 if the molecule satisfies it, more the further it is away."""


@dataclass
class Similar(Constraint):
    """Tanimoto similarity to a start molecule of at least ``threshold`` (the nearest of several counts).

    The default fingerprint (ECFP4, 2,048 bits) is the one of the paired-optimization tasks.
    """

    to: str | Sequence[str]
    threshold: float = 0.4
    kind: str = "ecfp4"
    name: str = "similarity"

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"similarity threshold is {self.threshold}; it must lie between 0 and 1.")
        texts = [self.to] if isinstance(self.to, str) else list(self.to)
        mols = [chemistry.parse(text) for text in texts]
        for text, mol in zip(texts, mols):
            if mol is None:
                raise DataError(f"similarity reference '{text}' is not a SMILES that RDKit can parse.")
        self._references = [chemistry.bit_fingerprint(mol, self.kind) for mol in mols if mol is not None]

    def similarity(self, mol: Mol) -> float:
        """Tanimoto to the nearest reference."""
        return float(chemistry.similarity(chemistry.bit_fingerprint(mol, self.kind), self._references).max())

    def violation(self, mol: Mol) -> float:
        return max(self.threshold - self.similarity(mol), 0.0)


@dataclass
class Keep(Constraint):
    """The molecule holds every one of these substructures (SMARTS)."""

    patterns: Sequence[str]
    name: str = "keep"

    def __post_init__(self) -> None:
        self.queries = [chemistry.smarts(p, "constraints keep") for p in self.patterns]

    def violation(self, mol: Mol) -> float:
        return float(sum(not mol.HasSubstructMatch(q) for q in self.queries))


@dataclass
class Scaffold(Constraint):
    """The molecule holds this scaffold (SMILES) and grows only at its attachment points ``*``, if it has any."""

    smiles: str
    name: str = "scaffold"

    def __post_init__(self) -> None:
        self.locked = chemistry.locked_scaffold(self.smiles)

    def violation(self, mol: Mol) -> float:
        return float(not chemistry.keeps_scaffold(mol, self.locked))


@dataclass
class Forbid(Constraint):
    """The molecule holds none of these substructures (SMARTS)."""

    patterns: Sequence[str]
    name: str = "forbid"

    def __post_init__(self) -> None:
        self.queries = [chemistry.smarts(p, "constraints forbid") for p in self.patterns]

    def violation(self, mol: Mol) -> float:
        return float(sum(mol.HasSubstructMatch(q) for q in self.queries))


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

    def __post_init__(self) -> None:
        _catalog(tuple(self.catalogs))

    def hits(self, mol: Mol) -> list[str]:
        """Names of the alerts that the molecule carries."""
        return [match.GetDescription() for match in _catalog(tuple(self.catalogs)).GetMatches(mol)]

    def violation(self, mol: Mol) -> float:
        return float(len(_catalog(tuple(self.catalogs)).GetMatches(mol)))


@dataclass
class Lipinski(Constraint):
    """At most ``allowed`` of the rule of five's four limits are broken (Lipinski 1997)."""

    allowed: int = 0
    name: str = "lipinski"

    def violation(self, mol: Mol) -> float:
        broken = (
            (rdMolDescriptors._CalcMolWt(mol) > 500)
            + (rdMolDescriptors.CalcCrippenDescriptors(mol)[0] > 5)
            + (rdMolDescriptors.CalcNumLipinskiHBD(mol) > 5)
            + (rdMolDescriptors.CalcNumLipinskiHBA(mol) > 10)
        )
        return float(max(broken - self.allowed, 0))


@dataclass
class Window(Constraint):
    """An RDKit property between ``low`` and ``high`` (either may be open): molecular weight, SA score, any descriptor.

    The violation is relative to the size of the limit.
    """

    descriptor: str
    low: float | None = None
    high: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        from molecules.oracles.descriptor import descriptor

        self.name = self.name or self.descriptor
        self._function = descriptor(self.descriptor)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigError(
                f"constraint {self.name} asks for at least {self.low} and at most {self.high}: no molecule."
            )

    def violation(self, mol: Mol) -> float:
        value = self._function(mol)
        if not math.isfinite(value):
            return 1.0
        below = 0.0 if self.low is None else max(self.low - value, 0.0) / max(abs(self.low), 1.0)
        above = 0.0 if self.high is None else max(value - self.high, 0.0) / max(abs(self.high), 1.0)
        return below + above


IMPLAUSIBLE = {
    "chain of three heteroatoms": "[#7,#8,#16;!a;!$(S(=O)=O);!$([N+](=O)[O-])]~[#7,#8;!a;!$([N+](=O)[O-])]~"
    "[#7,#8,#16;!a;!$(S(=O)=O)]",
    "oxygen bound to oxygen": "[#8]-[#8]",
    "hydrazine": "[NX3;!a;!$(N-C=O);!$(N-S=O);!$(N-[a])]-[NX3;!a;!$(N-C=O);!$(N-S=O);!$(N-[a])]",
    "halogen on a heteroatom": "[F,Cl,Br,I]-[#7,#8,#16,#15;!$(P);!$(S(F)(F))]",
    "cumulated double bonds": "[#6,#7]=[#6]=[#6,#7,#8,#16]",
    "triple bond in a small ring": "[r3,r4,r5,r6,r7]#[r3,r4,r5,r6,r7]",
    "aryne or allene in a ring": "[R]=[R]=[R]",
    "three- or four-membered ring with a double bond": "[r3,r4;!a]=[r3,r4;!a]",
    "anti-Bredt double bond": "[R3;!a]=[R2,R3;!a]",
    "geminal hydroxyl, amine or thiol": "[CX4]([OH,NH2,SH])[OH,NH2,SH]",
    "hemiaminal or hemiacetal in the open": "[CX4;!R]([OH])[NX3,OX2;!R;!$([N,O]-C=O)]",
    "enol or enamine in the open": "[CX3;!a;!$(C=O);!$(C=N)](=[CX3;!a;!$(C-[C,S,N+]=O);!$(C-C#N)])[OH,NH2]",
    "imine without a substituent": "[CX3;!$(C-N);!$(C-O);!$(C-S)]=[NH]",
    "acyl halide": "[CX3](=O)[F,Cl,Br,I]",
    "anhydride": "[CX3](=O)[OX2;!R][CX3]=O",
    "sulfur chain": "[#16;X2]-[#16;X2]-[#16]",
    "metal or odd element": "[!#1;!#5;!#6;!#7;!#8;!#9;!#14;!#15;!#16;!#17;!#35;!#53]",
}


@dataclass
class Plausible(Constraint):
    """Structures that a chemist would not draw: chains of heteroatoms, arynes, anti-Bredt bonds, cages, large rings."""

    largest_ring: int = 8
    name: str = "plausible"

    @cached_property
    def _queries(self) -> dict[str, Mol]:
        return {reason: chemistry.smarts(pattern, reason) for reason, pattern in IMPLAUSIBLE.items()}

    def reasons(self, mol: Mol) -> list[str]:
        """What is implausible about the molecule, in words."""
        found = [reason for reason, query in self._queries.items() if mol.HasSubstructMatch(query)]
        if chemistry.largest_ring(mol) > self.largest_ring:
            found.append(f"ring of more than {self.largest_ring} atoms")
        if _is_cage(mol):
            found.append("cage")
        if chemistry.is_radical(mol):
            found.append("radical")
        return found

    def violation(self, mol: Mol) -> float:
        return float(len(self.reasons(mol)))


def _is_cage(mol: Mol) -> bool:
    """An atom in four or more small rings, or three ring-sharing bonds at a saturated atom of three small rings."""
    rings = [set(r) for r in mol.GetRingInfo().AtomRings() if len(r) <= 5]
    counts: dict[int, int] = {}
    for ring in rings:
        for atom in ring:
            counts[atom] = counts.get(atom, 0) + 1
    return any(n >= 3 and not mol.GetAtomWithIdx(atom).GetIsAromatic() for atom, n in counts.items())


@dataclass
class Constraints:
    """All of them together. ``check`` names a contradiction before the first oracle call is paid."""

    items: Sequence[Constraint] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [item.name for item in self.items]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ConfigError(f"two constraints are named '{twice[0]}'; give one of them another name.")
        self.check()

    def violations(self, mol: Mol) -> dict[str, float]:
        """Violation by name; all 0 for an allowed molecule."""
        return {item.name: item.violation(mol) for item in self.items}

    def total(self, mol: Mol) -> float:
        return sum(item.violation(mol) for item in self.items)

    def check(self) -> None:
        """What must be kept must itself be allowed by what is forbidden, the alerts and the ceilings."""
        kept = [(f"scaffold {i.smiles}", i.locked) for i in self.items if isinstance(i, Scaffold)]
        patterns = [p for i in self.items if isinstance(i, Keep) for p in i.patterns]
        kept += [(f"substructure {p}", m) for p in patterns if (m := chemistry.parse(p)) is not None]
        for text, mol in kept:
            for item in self.items:
                if isinstance(item, Forbid):
                    bad = [p for p, q in zip(item.patterns, item.queries) if mol.HasSubstructMatch(q)]
                    if bad:
                        raise ConfigError(
                            f"constraints contradict each other: {text} must stay and holds forbidden {bad[0]}."
                        )
                if isinstance(item, Window) and item.descriptor in ("MolWt", "mw") and item.high is not None:
                    weight = rdMolDescriptors._CalcMolWt(mol, onlyHeavy=True)
                    if weight > item.high:
                        raise ConfigError(
                            f"constraints contradict each other: {text} must stay and weighs {weight:.0f}, "
                            f"more than {item.name} allows ({item.high})."
                        )
        for pattern in patterns:
            for item in self.items:
                if isinstance(item, Forbid) and pattern in item.patterns:
                    raise ConfigError(f"constraints contradict each other: {pattern} is both kept and forbidden.")
