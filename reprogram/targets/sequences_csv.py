"""Proteins, peptides, DNA or RNA from a table: one-letter codes, checked against their alphabet."""

from __future__ import annotations

from reprogram.errors import ConfigError, nearest
from reprogram.featurisers import Composition, KMers
from reprogram.ranges import PositiveShare
from reprogram.targets.splits import identity_clusters
from reprogram.targets.strings import ReadCell, StringReader, StringTarget

ALPHABETS = {"protein": "ACDEFGHIKLMNPQRSTVWY", "dna": "ACGT", "rna": "ACGU"}
AMBIGUOUS = {"protein": "BJOUXZ", "dna": "NRYKMSWBDHV", "rna": "NRYKMSWBDHV"}  # IUPAC: real letters, not of one meaning


@StringTarget
def sequences_csv(alphabet: str = "protein", identity_threshold: PositiveShare = 0.6) -> StringReader:
    """``split=identity``: no test sequence has ``identity_threshold`` or more in common with a training sequence."""
    return sequence_reader(alphabet, identity_threshold)


def sequence_reader(alphabet: str, threshold: float) -> StringReader:
    """How one-letter sequences are read, split, described and compared."""
    if alphabet not in ALPHABETS:
        raise ConfigError(f"target.alphabet={alphabet} is not known; {nearest(alphabet, ALPHABETS)}")
    letters, ambiguous = ALPHABETS[alphabet], AMBIGUOUS[alphabet]

    def read(cell: str) -> ReadCell:
        text = "".join(cell.split()).rstrip("*").upper()  # a final * is a stop codon
        if not text:
            return ReadCell(problem="have an empty sequence")
        unknown = sorted(set(text) - set(letters) - set(ambiguous))
        if unknown:
            return ReadCell(problem=f"have letters that are no {alphabet} code, such as '{unknown[0]}'")
        return ReadCell(text, note="have letters of several meanings" if set(text) & set(ambiguous) else "")

    return StringReader(
        "sequence",
        read,
        groups={"identity": lambda strings: identity_clusters(strings, threshold).tolist()},
        featurisers={"composition": Composition(letters), "kmers": KMers()},
    )
