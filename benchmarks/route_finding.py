"""Routes to given molecules: for how many ZINC molecules one of at most three steps is found, and whether all of them replay.

    python benchmarks/route_finding.py --molecules 300 --seed 1

None of the molecules is among the 12,000 that ``benchmarks/block_table.py`` took apart for the stock. Prints how many have a
route, how many of the routes run again from their blocks to the very molecule, and how many analogues with a route the others
have.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from contextlib import suppress

import numpy as np
from block_table import sample
from common import versions

from molecules import chemistry
from molecules.routes.analogues import Analogues
from molecules.routes.reactions import reaction
from molecules.routes.retro import RouteFinder
from molecules.routes.rivals import competing
from molecules.routes.route import Route, replay
from molecules.routes.stock import Blocks, Stock
from molecules.search.operators.route_edits import RouteEdits
from molecules.spaces.routes import RouteSpace
from molecules.starts import zinc_file
from reprogram.errors import DataError


def others(count: int, seed: int) -> list[str]:
    """Random ZINC molecules that had no part in making the stock, without stereo marks."""
    used = set(sample())
    lines = [line for line in zinc_file().read_text().split() if line not in used]
    found: dict[str, None] = {}
    for line in random.Random(seed).sample(lines, min(2 * count, len(lines))):
        cleaned = chemistry.clean(line, stereo=False)
        if cleaned is not None and len(found) < count:
            found[cleaned.smiles] = None
    return list(found)


def replays(route: Route, smiles: str, stock: Stock) -> bool:
    """Does the route, written down and read again, make the molecule of blocks that are in stock?"""
    with suppress(DataError):
        return replay(str(route), stock) == smiles
    return False


def likeness(smiles: str, other: str) -> float:
    """Tanimoto similarity on ECFP4, 2,048 bits."""
    prints = [chemistry.bit_fingerprint(mol) for mol in map(chemistry.parse, (smiles, other)) if mol is not None]
    return float(chemistry.similarity(prints[0], prints[1:])[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--blocks", help="another stock than that of the package")
    options = parser.parse_args()
    space = RouteSpace(Blocks(options.blocks))
    finder = RouteFinder(space.stock, options.steps)
    analogues = Analogues(space.stock, options.steps, RouteEdits(space, random.Random(0), 60).applied)
    molecules, began = others(options.molecules, options.seed), time.perf_counter()
    found = {smiles: route for smiles in molecules if (route := finder.find(smiles)) is not None}
    seconds = time.perf_counter() - began
    alike = {smiles: routes[0] for smiles in molecules if smiles not in found and (routes := analogues.of(smiles))}
    made = [*found.values(), *alike.values()]
    concerns = [competing(reaction(n.reaction), [r.smiles for r in n.reactants]) for route in made for n in route.made]
    figures = {
        "molecules": len(molecules),
        "with_a_route": len(found),
        "replay": sum(replays(route, smiles, space.stock) for smiles, route in found.items()),
        "others_with_an_analogue": len(alike),
        "analogues_that_replay": sum(replays(route, route.smiles, space.stock) for route in alike.values()),
        "median_similarity_of_analogues": float(np.median([likeness(s, r.smiles) for s, r in alike.items()])) if alike else None,
        "steps_in_which_another_group_reacts": sum(map(bool, concerns)),
        "seconds_per_molecule": seconds / len(molecules),
    }
    print("\n".join(f"{name}: {value}" for name, value in figures.items()))
    print(json.dumps({"benchmark": "route_finding", "figures": figures, "seed": options.seed, "versions": versions()}))


if __name__ == "__main__":
    main()
