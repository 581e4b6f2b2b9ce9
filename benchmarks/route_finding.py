"""Routes to given molecules: for how many ZINC molecules one of at most three steps is found, and whether all of them replay.

    python benchmarks/route_finding.py --molecules 300 --seed 1

None of the molecules is among the 12,000 that ``benchmarks/block_table.py`` took apart for the stock. Prints how many have a
route, how many of the routes run again from their blocks to the very molecule, and how many analogues with a route the others
have, and how many steps of all these routes would have another group react as well.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from block_table import sample
from common import append_line, read_lines, versions, write_page

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

PAGE = Path(__file__).parents[1] / "docs" / "results" / "route_finding.md"


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
    parser.add_argument("--cells", type=Path, default=Path("outputs/benchmarks/route_finding.jsonl"), help="finished benchmarks")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--table-only", action="store_true", help="run nothing, write the page from the last line of --cells")
    options = parser.parse_args()
    if not options.table_only:
        told = {"benchmark": "route_finding", "figures": measured(options), "seed": options.seed, "versions": versions()}
        append_line(options.cells, json.dumps(told))
        print(json.dumps(told))
    lines = [line for line in read_lines(options.cells) if line.get("benchmark") == "route_finding"]
    text = page(lines[-1]["figures"], lines[-1]["seed"])
    write_page(options.page, "Routes to given molecules", "python benchmarks/route_finding.py", text)
    print(text)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of so many molecules."""
    space = RouteSpace(Blocks(options.blocks))
    finder = RouteFinder(space.stock, options.steps)
    analogues = Analogues(space.stock, options.steps, RouteEdits(space, random.Random(0), 60).applied)
    molecules, began = others(options.molecules, options.seed), time.perf_counter()
    found = {smiles: route for smiles in molecules if (route := finder.find(smiles)) is not None}
    seconds = time.perf_counter() - began
    alike = {smiles: routes[0] for smiles in molecules if smiles not in found and (routes := analogues.of(smiles))}
    made = [node for route in (*found.values(), *alike.values()) for node in route.made]
    return {
        "molecules": len(molecules),
        "with_a_route": len(found),
        "replay": sum(replays(route, smiles, space.stock) for smiles, route in found.items()),
        "others_with_an_analogue": len(alike),
        "analogues_that_replay": sum(replays(route, route.smiles, space.stock) for route in alike.values()),
        "median_similarity_of_analogues": float(np.median([likeness(s, r.smiles) for s, r in alike.items()])) if alike else None,
        "steps_in_which_another_group_reacts": sum(
            bool(competing(reaction(n.reaction), [r.smiles for r in n.reactants])) for n in made
        ),
        "seconds_per_molecule": seconds / len(molecules),
    }


def page(figures: dict[str, Any], seed: int) -> str:
    """The figures in words."""
    alike = figures["median_similarity_of_analogues"]
    return (
        f"Of {figures['molecules']} ZINC molecules that had no part in making the stock (seed {seed}), "
        f"{figures['with_a_route']} have a route of at most three steps that was found; {figures['replay']} of these routes "
        "run again from their blocks to the very molecule. "
        f"Of the others, {figures['others_with_an_analogue']} have an analogue with a route, "
        f"{figures['analogues_that_replay']} of which replay"
        + ("" if alike is None else f"; the median Tanimoto similarity (ECFP4) of the best analogue is {alike:.2f}")
        + f". In {figures['steps_in_which_another_group_reacts']} of all steps another group would react as well."
    )


if __name__ == "__main__":
    main()
