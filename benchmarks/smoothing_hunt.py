"""Looks for functions that contradict the first-order bound of randomized smoothing: slabs, whose values are known exactly.

    python benchmarks/smoothing_hunt.py --draws 40000 --seed 100

A slab is 1 between two parallel planes. Its smoothed value, gradient and value after a shift are closed forms, so the bound
of the first two must not exceed the third. Right: 0 contradicted. About half a minute on one core.
"""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
from common import versions
from scipy.special import ndtr

from reprogram.robustness.certification.higher_order import lower, phi


def excess(rng: np.random.Generator) -> float | None:
    """Bound minus truth of one random slab, shifted against its gradient; None for a draw that the bound is not about."""
    ends = rng.uniform(-3.5, 3.5, 2)
    low, high = ends.min(), ends.max() + 0.5
    tilt, r = rng.choice([0.0, rng.uniform(0, 3)]), rng.uniform(0.1, 3)
    value, moment = ndtr(high) - ndtr(low), phi(low) - phi(high)
    along, across = moment * math.cos(tilt), abs(moment * math.sin(tilt))
    if value <= 0.5 or along > 0:
        return None
    shift = r * math.cos(tilt)
    return float(lower(value, -along, across, r) - (ndtr(high - shift) - ndtr(low - shift)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=100)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    found = [gap for _ in range(arguments.draws) if (gap := excess(rng)) is not None]
    figures = {"slabs": len(found), "contradicted": sum(gap > 0 for gap in found), "nearest": max(found)}
    print(f"{figures['slabs']:,} slabs, {figures['contradicted']} contradicted; the nearest is {figures['nearest']:.1e} off")
    print(json.dumps(figures | {"seed": arguments.seed, "versions": versions("scipy")}))


if __name__ == "__main__":
    main()
