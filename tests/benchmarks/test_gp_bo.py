"""The bounds that the GP-BO benchmark keeps for its pool are those that its Gaussian process predicts."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from molecules import chemistry
from molecules.search.model.count_gp import CountGP
from molecules.search.model.counts import CountRows

FILE = Path(__file__).parents[2] / "benchmarks" / "_gp_bo.py"
_spec = importlib.util.spec_from_file_location("_gp_bo", FILE)
gp_bo = importlib.util.module_from_spec(_spec)
sys.modules["_gp_bo"] = gp_bo  # its dataclass looks itself up there
_spec.loader.exec_module(gp_bo)

POOL = ["CCO", "CCCO", "c1ccccc1", "Cc1ccccc1O", "CC(=O)Nc1ccc(O)cc1"]
LEARNED = ["CCN", "Oc1ccccc1", "CC(=O)O"]


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_kept_bounds_of_the_pool_are_those_of_the_process(beta: float) -> None:
    gp, pool, values = CountGP(), gp_bo.Pool(POOL), np.array([0.2, 0.9, 0.4])
    rows = CountRows.of([chemistry.parse(s) for s in LEARNED])
    for row in range(len(rows)):
        gp.add(rows.take([row]))
        pool.learn(gp, rows.entries[row])
    gp.observe(values)
    pool.observe(gp, values)
    means, stds = gp.predict(CountRows.of([chemistry.parse(s) for s in POOL]))
    assert pool.bounds(beta) == pytest.approx(means + beta * stds, abs=1e-6)
