"""Molecules as a modality of the toolkit: SMILES, canonicalised and written in several ways."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from reprogram.modalities.base import Candidate, Named, TableFile, Tokenization
from reprogram.modalities.text import Text, maps_of


class Molecule(Text):
    """Layers of a language model averaged over randomized SMILES; fingerprints and descriptors are side features."""

    plain_input: ClassVar[str] = "smiles"
    changes: ClassVar[str | None] = None  # another string is another molecule
    simplifies: ClassVar[bool] = False
    words: ClassVar[bool] = False
    maps: ClassVar[tuple[Named, ...]] = maps_of("smiles", "the chemical properties of this molecule")
    longest: ClassVar[int] = 1_000
    side_features: ClassVar[tuple[str, ...]] = ("ecfp4", "descriptors")
    libraries: ClassVar[tuple[str, ...]] = ("rdkit",)

    def own(self, layers: Named, source: int) -> list[Candidate]:
        averaged = (layers[0], layers[1] | {"average": 3})
        process: Named = ("gaussian_process", {"average": 3, "trees": 200, "units": True})
        several, hybrid = {"views": 3}, {"views": 3, "features": list(self.side_features)}
        return [
            self.reading("layers, 3 randomized SMILES", several, averaged, source),
            self.reading("layers, 3 randomized SMILES, and plain features", hybrid, averaged, source),
            self.reading(
                "Gaussian process, 3 randomized SMILES, and plain features", hybrid, process, source, tags=("preferred",)
            ),
        ]

    def table_files(self) -> Mapping[str, TableFile]:
        from molecules.table_files import SDF, SMI

        return {"smi": SMI, "sdf": SDF}

    def tokenizations(self) -> Mapping[str, Tokenization]:
        from molecules.tokenization import SELFIES, SMILES

        return {"smiles": SMILES, "selfies": SELFIES}

    def writers(self, input_column: str) -> Mapping[str, Any]:
        return {".sdf": partial(write_sdf, input_column)}

    def variants(self, item: Any, count: int, seed: int) -> list[Any]:
        """Randomized SMILES of the same molecule."""
        import numpy as np

        from molecules.chemistry import parse, random_smiles

        mol, rng = parse(str(item)), np.random.default_rng(seed)
        return [] if mol is None else [random_smiles(mol, rng) for _ in range(count)]

    def shown(self, item: Any, side: int = 224) -> str:
        """The drawing, and the SMILES below it."""
        from molecules.chemistry import draw_svg

        svg = draw_svg(str(item), size=(side, round(side * 0.75)))
        return f'{svg[svg.index("<svg") :]}<div class="text">{html.escape(str(item))}</div>'


def write_sdf(smiles: str, path: Path, names: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    """One record a row, in order, the other columns as its properties; no atoms where column ``smiles`` cannot be read."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    from molecules.chemistry import parse

    with path.open("w", encoding="utf-8") as file, Chem.SDWriter(file) as writer:
        for row in rows:
            text = str(row[smiles] or "")
            found = parse(text) if text else None
            mol = Chem.Mol() if found is None else Chem.Mol(found)
            if mol.GetNumAtoms():
                rdDepictor.Compute2DCoords(mol)
            mol.SetProp("_Name", str(row["row"]))
            for name, value in row.items():
                if value not in (None, ""):
                    mol.SetProp(name, str(value).replace("\n", " "))
            writer.write(mol)
