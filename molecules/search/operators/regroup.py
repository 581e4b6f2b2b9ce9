"""Edits of a molecule with a locked scaffold: one R-group, or the linker of two parts, is exchanged and nothing else.

Edits that do not know the scaffold break it most of the time.
"""

from __future__ import annotations

from random import Random

from molecules.chemistry import Mol, parse
from molecules.constraints import Constraints, Scaffold
from molecules.rgroups import HYDROGEN, core, labelled, points, put_together, r_groups
from molecules.search.operators.library import Library

SHARE = 0.7  # of children of a molecule with a locked scaffold; the others come from edits of any atom
BARE = 0.2  # of drawn R-groups that are hydrogen
SIMPLE = ("*C*", "*CC*", "*CCC*", "*O*", "*N*", "*C(=O)*", "*NC(=O)*", "*C(=O)N*", "*CO*", "*OC*", "*CN*", "*NC*", "*S(=O)(=O)*")
SIMPLE_SHARE = 0.5  # of drawn linkers; the others are ring systems of the library


def locked(constraints: Constraints) -> Mol | None:
    """The scaffold with attachment points that a run keeps, if it does."""
    found = (item.locked for item in constraints.items if isinstance(item, Scaffold))
    return next((scaffold for scaffold in found if points(scaffold)), None)


def regroup(parent: str, mate: str, scaffold: Mol, library: Library, random: Random, flat: bool = True) -> str | None:
    """A child with one R-group from the library or from ``mate``; None where the parent does not keep the scaffold.

    flat: without the stereo marks that the parent has in its scaffold.
    """
    mol, other = parse(parent), parse(mate)
    groups = None if mol is None else r_groups(mol, scaffold)
    base = scaffold if flat or mol is None else core(mol, scaffold)
    if not groups or base is None:
        return None
    at = random.randrange(len(groups))
    given = None if other is None else r_groups(other, scaffold)
    if groups[at].count("*") > 1:
        new = given[at] if given and given[at].count("*") > 1 and random.random() < 0.3 else drawn_linker(library, random)
        return put_together(base, [new if group == groups[at] else group for group in groups])
    take = given is not None and given[at].count("*") == 1 and random.random() < 0.3
    groups[at] = given[at] if given is not None and take else drawn_group(at + 1, library, random)
    return put_together(base, groups)


def drawn_group(number: int, library: Library, random: Random) -> str:
    """A substituent of the library, or hydrogen, for attachment point ``number``."""
    text = None if random.random() < BARE else library.text(1, random)
    return f"[{number}*]{HYDROGEN}" if text is None else labelled(text, number)


def drawn_linker(library: Library, random: Random) -> str:
    """A piece with two open ends, for attachment points 1 and 2."""
    text = library.text(2, random) if random.random() >= SIMPLE_SHARE else None
    first, _, rest = (text or random.choice(SIMPLE)).partition("*")
    return f"{first}[1*]{rest.replace('*', '[2*]', 1)}"
