"""Molecules as a modality of the toolkit: SMILES, canonicalised and written in several ways."""

from __future__ import annotations

from typing import ClassVar

from reprogram.modalities.base import Candidate, Named
from reprogram.modalities.text import Text


class Molecule(Text):
    """Layers of a language model averaged over randomized SMILES; fingerprints and descriptors stand beside."""

    plain_input: ClassVar[str] = "smiles"
    changes: ClassVar[str | None] = None  # another string is another molecule
    side_features: ClassVar[tuple[str, ...]] = ("ecfp4", "descriptors")

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
