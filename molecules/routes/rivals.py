"""Groups that would react in the place of the site of a step: what a template does not see.

Three questions, for each reactant: does it hold the site twice, does it also hold the partner's (it would react with itself), and
does it hold a group that reacts as fast or faster (``rivals.tsv``)? Rules of thumb of a chemist, without conditions, protecting
groups or yields; an amine is weighed by its kind, because an aliphatic one wins over an aniline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from molecules import chemistry
from molecules.routes.reactions import Reaction, reactions
from reprogram.errors import DataError

FILE = Path(__file__).with_name("rivals.tsv")
AMINE = "[NX3;H1,H2;!$(N~[!#6;!#1]);!$(N[$(C=[O,S,N]),$(C#N)])]"
KINDS = (  # of amines, by how readily they attack; of halides, by how readily palladium takes them
    (3, "[NX3;H1,H2;$(N[CX4]);!$(N[c,$(C=[O,S,N]),$(C#N)]);!$(N~[!#6;!#1])]"),
    (2, "[NX3;H1,H2;$(Nc);!$(Nc[n;X2]);!$(N[$(C=[O,S,N]),$(C#N)]);!$(N~[!#6;!#1])]"),
)
HALIDES = ((2, "[$(c[Br,I])]"), (1, "[$(cCl)]"))
COUPLED = ("Suzuki",)  # the second reactant's halide may win over one of the first
METALATED = ("Grignard", "Weinreb")  # the second reactant becomes an organometallic before it meets the first


def competing(step: Reaction, reactants: Sequence[str]) -> str:
    """Why a step would not give its product alone, in words; "" where nothing is known against it."""
    for slot, smiles in enumerate(reactants):
        reason = _alone(step, slot, smiles)
        if reason:
            return reason
    return _each_other(step, *reactants) if len(reactants) == 2 else ""


@lru_cache(maxsize=100_000)
def _alone(step: Reaction, slot: int, smiles: str) -> str:
    """What is wrong with one reactant, whatever its partner."""
    mol = chemistry.parse(smiles)
    if mol is None:
        return ""
    for name, pattern in rivals().get(step.name, ()):
        if mol.HasSubstructMatch(chemistry.smarts(pattern)):
            return f"{step.name}: {name} in {smiles} reacts as well"
    if not _makes_a_ring(step) and len(mol.GetSubstructMatches(chemistry.smarts(step.slots[slot]), maxMatches=10)) > 1:
        return f"{step.name}: {smiles} has two sites for it"
    return ""


def _each_other(step: Reaction, first: str, second: str) -> str:
    """Would a reactant react with its own kind?"""
    if len({re.sub(r":\d+\]", "]", slot) for slot in step.slots}) == 1:  # two amines in a urea, one after the other
        return ""
    for slot, smiles, partner in ((0, first, second), (1, second, first)):
        if slot == 0 and step.name.startswith(METALATED):
            continue
        if not step.fits(1 - slot, smiles):
            continue
        strength = readiest_halide if step.name.startswith(COUPLED) else strongest_amine
        if slot == 0 and 0 < strength(smiles) < strength(partner):  # the partner's wins
            continue
        return f"{step.name}: {smiles} could react with itself"
    return ""


def strongest_amine(smiles: str) -> int:
    """3: an aliphatic amine, 2: an aniline, 1: another free amine, such as one beside a ring nitrogen, 0: none."""
    return _first(smiles, (*KINDS, (1, AMINE)))


def readiest_halide(smiles: str) -> int:
    """2: an aryl bromide or iodide, 1: a chloride, 0: none."""
    return _first(smiles, HALIDES)


@lru_cache(maxsize=100_000)
def _first(smiles: str, kinds: tuple[tuple[int, str], ...]) -> int:
    mol = chemistry.parse(smiles)
    found = (rank for rank, pattern in kinds if mol is not None and mol.HasSubstructMatch(chemistry.smarts(pattern)))
    return next(found, 0)


@lru_cache(maxsize=200)
def _makes_a_ring(step: Reaction) -> bool:
    """Such a template may match one site in two ways."""
    return bool(re.search(r"\d", re.sub(r"\[[^]]*\]", "", step.forward.partition(">>")[2])))


@lru_cache(maxsize=1)
def rivals() -> dict[str, tuple[tuple[str, str], ...]]:
    """By reaction: (name, SMARTS) of the groups that no reactant may hold. Raises DataError with the line."""
    groups: dict[str, tuple[str, str]] = {}
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for number, line in enumerate(FILE.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.split("\t")
        if line.startswith("#"):
            continue
        if line.startswith("$") and len(cells) == 3:
            groups[cells[0][1:]] = (cells[2], cells[1])
            continue
        names = cells[0].split(" | ")
        wanted = cells[-1].split(", ")
        if len(cells) != 2 or not set(names) <= set(reactions()) or not set(wanted) <= set(groups):
            raise DataError(f"{FILE}: line {number} must be reactions and groups that exist, with a tab between.")
        for name in names:
            found[name] = tuple(groups[group] for group in wanted)
    return found
