"""Your own molecules: raise a score of your own from your start molecules, under constraints, with a fixed budget.

    python docs/examples/own_molecules.py --start mine.smi --budget 500
    python docs/examples/own_molecules.py                                 # ibuprofen and paracetamol

Twenty seconds on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import mkdtemp

from rdkit import Chem
from rdkit.Chem import Crippen

import molecules
from molecules.chemistry import draw_grid
from molecules.oracles.function import Function
from molecules.transforms import Gaussian

START = ["CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CC(=O)Nc1ccc(O)cc1"]


def lipophilicity(smiles: str) -> float:
    """Any function of one SMILES can be an oracle: a model of yours, a docking program, a table of measurements."""
    return float(Crippen.MolLogP(Chem.MolFromSmiles(smiles)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, help="a .smi, .csv, .tsv or .sdf file")
    parser.add_argument("--budget", type=int, default=300, help="molecules that may be evaluated")
    parser.add_argument("--search", default="surrogate")
    parser.add_argument("--picture", type=Path, default=Path(mkdtemp()) / "best.png")
    args = parser.parse_args()

    # The objective: drug-like, and a logP near 2.5. The geometric mean needs both.
    objective = molecules.Objective(
        [
            molecules.Term(molecules.load_oracle("qed")),
            molecules.Term(Function(lipophilicity), transform=Gaussian(mu=2.5, sigma=0.5)),
        ]
    )

    # The constraints: what every molecule that is returned must satisfy. They cost nothing.
    constraints = {"similarity": 0.3, "alerts": ["PAINS"], "lipinski": 0}
    found = molecules.design(objective, args.start or START, args.budget, constraints=constraints, search=args.search)

    for note in found.notes:
        print(note)
    print(f"{len(found.calls)} of {args.budget} evaluations, {found.cost['seconds']:.0f} s")
    best = [m for m in found.best(12) if m.feasible]
    for m in best:
        print(f"{m.score:.3f}  qed {m.raw['qed']:.2f}  logP {m.raw['lipophilicity']:.2f}  {m.smiles}")
    args.picture.write_bytes(draw_grid([m.smiles for m in best], [f"{m.score:.3f}" for m in best], columns=4))
    print(f"picture in {args.picture}")


if __name__ == "__main__":
    main()
