"""Biological sequences: peptides, proteins, DNA and RNA, one letter a residue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.modalities.base import Candidate, Config, Named, Tokenization
from reprogram.modalities.text import Text, as_it_starts, maps_of, mean_of

AMINO_ACIDS = {
    "A": "alanine", "R": "arginine", "N": "asparagine", "D": "aspartate", "C": "cysteine", "Q": "glutamine",
    "E": "glutamate", "G": "glycine", "H": "histidine", "I": "isoleucine", "L": "leucine", "K": "lysine",
    "M": "methionine", "F": "phenylalanine", "P": "proline", "S": "serine", "T": "threonine", "W": "tryptophan",
    "Y": "tyrosine", "V": "valine",
}  # fmt: skip


class Sequence(Text):
    """A language model reads them as they are, a token a letter, or each letter as what its residue is called; composition and
    k-mers stand beside."""

    changes: ClassVar[str | None] = "residues"
    simplifies: ClassVar[bool] = False
    words: ClassVar[bool] = False
    maps: ClassVar[tuple[Named, ...]] = maps_of("amino_acids", "the letters of this sequence")
    side_features: ClassVar[tuple[str, ...]] = ("composition", "kmers")

    def tokenizations(self) -> Mapping[str, Tokenization]:
        return {"amino_acids": Tokenization(list, names=AMINO_ACIDS)}

    def candidates(
        self, spec: SourceSpec, target: TargetInfo, source: int = 0, hints: Mapping[str, Any] | None = None
    ) -> list[Candidate]:
        """Those of text, and the untrained map of letters where the source can be read below its tokenizer."""
        found = super().candidates(spec, target, source, hints)
        if spec.vocabulary is None:
            return found
        balanced: Config = {"balanced": target.problem != "regression"}
        return found + as_it_starts(self.maps[0], ("ridge_taps", balanced), source, ("preferred",))

    def own(self, layers: Named, source: int) -> list[Candidate]:
        features = list(self.side_features)
        process: Named = ("gaussian_process", {"average": 1, "trees": 200, "units": False})
        both = {"tokens": "own+amino_acids", "features": features}
        return [
            self.reading("layers, a token a letter", {"tokens": "amino_acids"}, layers, source),
            self.reading("Gaussian process and plain features", {"features": features}, process, source),
            self.reading("layers, both ways, and plain features", both, layers, source),
            self.reading(
                "mean of layers and Gaussian process, both ways, and plain features",
                both,
                mean_of(layers, process),
                source,
                tags=("preferred",),
            ),
        ]
