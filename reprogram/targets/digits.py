"""scikit-learn's 1,797 handwritten digits of 8x8 grey pixels."""

from __future__ import annotations

import numpy as np

from reprogram.interfaces import TargetTask
from reprogram.ranges import Count, Seed, Shots
from reprogram.targets.arrays import from_arrays


def digits(
    shots: Shots = 16, labels: Shots = None, seed: Seed = 0, test_size: Count = 500, split_seed: Seed = 0
) -> TargetTask:
    """Ten classes; ``test_size`` images are held out, the same ones for every ``seed``."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255.0 / 16.0)).astype(np.uint8)
    return from_arrays(
        images,
        data.target.astype(np.int64),
        test_size=test_size,
        split_seed=split_seed,
        shots=shots,
        total=labels,
        seed=seed,
        name="digits",
    )
