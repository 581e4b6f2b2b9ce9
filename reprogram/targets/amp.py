"""Antimicrobial peptides against UniProt peptides: 5,200 rows that come inside modlamp (Müller et al. 2017)."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from reprogram.errors import DataError
from reprogram.ranges import PositiveShare, Seed, Shots, TestSize
from reprogram.targets.sequences_csv import sequences_csv
from reprogram.targets.strings import StringTask


def amp(
    labels: Shots = 64,
    shots: Shots = None,
    split: str = "stratified",
    identity_threshold: PositiveShare = 0.6,
    test_size: TestSize = 0.2,
    split_seed: Seed = 0,
    seed: Seed = 0,
) -> StringTask:
    """Classes ``UniProt`` (0) and ``AMP`` (1). Repeated peptides are merged; 22 that are in both classes are left out."""
    lines = packaged_file().read_text().splitlines()
    names = lines[0].split(",")[2:4]  # the first line is "5200,1,UniProt,AMP"
    pairs = [line.replace(" ", "").split(",") for line in lines[1:] if line.strip()]
    rows = [f"{sequence},{names[int(label)]}" for sequence, label in pairs]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "AMPvsUniProt.csv"
        path.write_text("\n".join(["sequence,class", *rows]) + "\n")
        return sequences_csv(
            str(path),
            "sequence",
            "class",
            labels=labels,
            shots=shots,
            split=split,
            identity_threshold=identity_threshold,
            test_size=test_size,
            split_seed=split_seed,
            seed=seed,
            name="amp",
        )


def packaged_file() -> Path:
    """The table inside the package modlamp. Raises DataError where that is not installed."""
    package = find_spec("modlamp")
    if package is None or not package.submodule_search_locations:
        raise DataError("target=amp needs the package modlamp: pip install 'reprogram[language]'.")
    return Path(package.submodule_search_locations[0]) / "data" / "AMPvsUniProt.csv"
