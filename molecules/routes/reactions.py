"""Reactions as pairs of templates: forward, and the same step backwards.

The file ``reactions.tsv`` holds the robust reactions of medicinal chemistry (after Hartenfeller et al., J. Chem. Inf. Model.
2011, 51, 3093) and the usual couplings. A template says which atoms meet; yields, conditions and competing groups far from the
site are beyond it, so :class:`Reaction` counts the sites at which a step could happen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from rdkit import Chem
from rdkit.Chem import rdChemReactions

from molecules import chemistry
from molecules.chemistry import Mol
from reprogram.errors import DataError, nearest

FILE = Path(__file__).with_name("reactions.tsv")
MOST_PRODUCTS = 30  # of one template on one pair of molecules


@dataclass(frozen=True)
class Reaction:
    """A reaction of one or two molecules.

    forward, backward: reaction SMARTS, reactants in the same order. excluded: SMARTS that no reactant may hold; "" for none.
    """

    name: str
    forward: str
    backward: str
    excluded: str = ""

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The SMARTS of each reactant."""
        return tuple(Chem.MolToSmarts(self._forward.GetReactantTemplate(i)) for i in range(self.size))

    @cached_property
    def size(self) -> int:
        """Number of reactants."""
        return self._forward.GetNumReactantTemplates()

    def fits(self, slot: int, smiles: str) -> bool:
        """Can the molecule be the reactant number ``slot``?"""
        return _fits(self.slots[slot], smiles) and not (self.excluded and _fits(self.excluded, smiles))

    def products(self, reactants: Sequence[str]) -> list[str]:
        """Every different product of these reactants (canonical SMILES), in a fixed order; [] where they do not react."""
        return list(_products(self, tuple(reactants)))

    def precursors(self, smiles: str) -> list[tuple[str, ...]]:
        """Reactants of which the molecule may be made by this step, in a fixed order. They may be wrong: run it forward."""
        mol = chemistry.parse(smiles)
        if mol is None:
            return []
        return sorted(_outcomes(self._backward, (mol,), pieces=self.size))

    @cached_property
    def _forward(self) -> Any:
        return _compiled(self.forward, self.name)

    @cached_property
    def _backward(self) -> Any:
        return _compiled(self.backward, self.name)


@lru_cache(maxsize=50_000)
def _products(reaction: Reaction, reactants: tuple[str, ...]) -> tuple[str, ...]:
    mols = [chemistry.parse(text) for text in reactants]
    if len(mols) != reaction.size or any(mol is None for mol in mols):
        return ()
    if reaction.excluded and any(_fits(reaction.excluded, text) for text in reactants):
        return ()
    outcomes = _outcomes(reaction._forward, tuple(mols), pieces=1)
    return tuple(sorted({chemistry.canonical(names[0]) or names[0] for names in outcomes}))


@lru_cache(maxsize=200_000)
def _fits(slot: str, smiles: str) -> bool:
    mol = chemistry.parse(smiles)
    return mol is not None and mol.HasSubstructMatch(chemistry.smarts(slot))


def _outcomes(template: Any, mols: tuple[Mol | None, ...], pieces: int) -> set[tuple[str, ...]]:
    """Different sane outcomes, each as the canonical SMILES of its ``pieces`` molecules."""
    found: set[tuple[str, ...]] = set()
    for outcome in template.RunReactants(mols, MOST_PRODUCTS):
        names = [_sane(piece) for piece in outcome]
        if len(names) == pieces and all(names):
            found.add(tuple(name for name in names if name))
    return found


def _sane(mol: Mol) -> str | None:
    """SMILES of a product, nearly always canonical; None where it is no molecule, falls into parts or has unpaired electrons."""
    try:
        Chem.SanitizeMol(mol)
    except (ValueError, RuntimeError):
        return None
    text = Chem.MolToSmiles(mol)
    if "." in text or chemistry.is_radical(mol):
        return None
    return chemistry.canonical(text) if "[" in text else text  # a template may have written out hydrogens


def _compiled(smarts: str, name: str) -> Any:
    try:
        reaction = rdChemReactions.ReactionFromSmarts(smarts)
        reaction.Initialize()
        problems = reaction.Validate(silent=True)[1]
    except (ValueError, RuntimeError):
        problems = 1
    if problems:
        raise DataError(f"the reaction '{name}' has a template that RDKit cannot use: {smarts}.")
    return reaction


def read_reactions(path: Path) -> dict[str, Reaction]:
    """Reactions of a file by name. ``#``: a comment; ``$word TAB pattern``: what ``{word}`` stands for; else ``name TAB
    forward TAB backward [TAB excluded]``. Raises DataError with the line."""
    words: dict[str, str] = {}
    found: dict[str, Reaction] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("$") and len(cells) == 2:
            words[cells[0][1:]] = cells[1]
        elif len(cells) in (3, 4) and cells[0] not in found and not re.search(r"[:;]", cells[0]):
            found[cells[0]] = Reaction(cells[0], *(_expanded(cell, words) for cell in cells[1:]))
        else:
            what = "a new name without ':' and ';', a forward and a backward template"
            raise DataError(f"{path}: line {number} must be {what}, with tabs between.")
    return found


def _expanded(smarts: str, words: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: words.get(m[1], m[0]), smarts)


@lru_cache(maxsize=1)
def reactions() -> dict[str, Reaction]:
    """The reactions of this package by name."""
    return read_reactions(FILE)


def reaction(name: str) -> Reaction:
    """By its name. Raises DataError with the nearest that exists."""
    if name not in reactions():
        raise DataError(f"There is no reaction '{name}'; {nearest(name, list(reactions()))}")
    return reactions()[name]
