"""Proteins, peptides, DNA or RNA from a CSV file: one-letter codes, checked against their alphabet."""

from __future__ import annotations

from collections.abc import Sequence

from reprogram.errors import ConfigError, nearest
from reprogram.featurisers import Composition, KMers
from reprogram.interfaces import TargetTask
from reprogram.ranges import PositiveShare, Seed, Shots, TestSize
from reprogram.targets.splits import identity, identity_clusters
from reprogram.targets.strings import Reader, Reading, string_task

ALPHABETS = {"protein": "ACDEFGHIKLMNPQRSTVWY", "dna": "ACGT", "rna": "ACGU"}
AMBIGUOUS = {"protein": "BJOUXZ", "dna": "NRYKMSWBDHV", "rna": "NRYKMSWBDHV"}  # IUPAC: real letters, not of one meaning


def sequences_csv(
    path: str,
    input_column: str,
    label_column: str | Sequence[str],
    alphabet: str = "protein",
    labels: Shots = None,
    shots: Shots = None,
    split: str = "stratified",
    identity_threshold: PositiveShare = 0.6,
    problem: str = "auto",
    test_size: TestSize = 0.2,
    test_path: str | None = None,
    allow_overlap: bool = False,
    split_seed: Seed = 0,
    seed: Seed = 0,
    name: str | None = None,
    delimiter: str | None = None,
) -> TargetTask:
    """``split=identity``: no test sequence has ``identity_threshold`` or more in common with a training sequence."""
    return string_task(
        sequence_reader(alphabet, identity_threshold),
        path,
        input_column,
        label_column,
        labels=labels,
        shots=shots,
        split=split,
        problem=problem,
        test_size=test_size,
        test_path=test_path,
        allow_overlap=allow_overlap,
        split_seed=split_seed,
        seed=seed,
        name=name,
        delimiter=delimiter,
    )


def sequence_reader(alphabet: str, threshold: float) -> Reader:
    """How one-letter sequences are read, split, described and compared."""
    if alphabet not in ALPHABETS:
        raise ConfigError(f"target.alphabet={alphabet} is not known; {nearest(alphabet, ALPHABETS)}")
    letters, ambiguous = ALPHABETS[alphabet], AMBIGUOUS[alphabet]

    def read(cell: str) -> Reading:
        text = "".join(cell.split()).rstrip("*").upper()  # a final * is a stop codon
        if not text:
            return Reading(problem="have an empty sequence")
        unknown = sorted(set(text) - set(letters) - set(ambiguous))
        if unknown:
            return Reading(problem=f"have letters that are no {alphabet} code, such as '{unknown[0]}'")
        return Reading(text, note="have letters of several meanings" if set(text) & set(ambiguous) else "")

    return Reader(
        "sequence",
        read,
        groups={"identity": lambda strings: identity_clusters(strings, threshold).tolist()},
        featurisers={"composition": Composition(letters), "kmers": KMers()},
        similarity=identity,
        likeness="identity",
    )
