"""The published protocols: start molecules, AUC, one improved molecule."""

import importlib.util
import sys
from pathlib import Path

import pytest

from molecules.benchmark import improve, run_pmo, zinc_start
from molecules.chemistry import canonical, parse
from molecules.constraints import Similar
from molecules.oracles.descriptor import Descriptor
from molecules.search.genetic import Genetic

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name):
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_start_molecules_are_random_neutral_and_reproducible():
    start = zinc_start(20, 3)
    assert start == zinc_start(20, 3) != zinc_start(20, 4)
    assert all(canonical(s) == s and "@" not in s for s in start)
    assert not any(a.GetFormalCharge() == 1 and a.GetTotalNumHs() for s in start for a in parse(s).GetAtoms())


def test_pmo_counts_every_call_from_the_first_start_molecule():
    told = []
    row = run_pmo("median1", Genetic(), 150, 0, marked=told.append, marks=(100, 125, 500))
    assert [part["calls"] for part in told] == [100, 125]  # what a run that is cut short leaves
    assert told[0]["auc_top10"] < told[1]["auc_top10"] <= row["auc_top10"] and told[1] != row
    assert row["calls"] == 150 and 0 < row["auc_top10"] <= row["top10"] <= 1
    assert row["auc_top10_spent"] < row["auc_top10"]  # stopping early keeps the last value for the rest


def test_a_run_tells_its_cells_on_the_way_and_they_are_those_of_a_shorter_run():
    told = []
    whole = run_pmo("median1", Genetic(), 250, 0, marked=told.append, marks=(100, 200, 250))
    assert [row["calls"] for row in told] == [100, 200] and whole["calls"] == 250
    shorter = run_pmo("median1", Genetic(), 200, 0)
    same = ("auc_top10", "auc_top10_spent", "top10", "best", "task", "seed")
    assert [told[1][k] for k in same] == [shorter[k] for k in same]


def test_improve_stops_at_the_target_and_stays_similar():
    start = "CCN(CC)CCNC(=O)c1ccc(N)cc1"
    done = improve(start, Descriptor("qed"), Genetic(batch=5), [Similar(start, 0.4)], 200, 0, target=0.85)
    assert done.best is not None and done.best.score >= 0.85 and done.best.feasible
    assert done.calls < 200 and done.gain > 0


def test_published_columns_sum_to_the_known_totals():
    pmo = script("pmo")
    sums = [sum(column) for column in zip(*pmo.PUBLISHED.values())]
    assert sums == pytest.approx([13.74, 13.85, 13.91, 13.594, 12.340, 14.063, 16.11], abs=0.006)
    assert set(pmo.PUBLISHED) == set(pmo.TASKS)


def test_page_says_what_was_not_reached():
    pmo = script("pmo")
    rows = [
        {"search": "genetic", "plausible": False, "task": t, "seed": 10, "calls": 500, "auc_top10": 0.1, "top10": 0.1}
        | {"no_alert": 0.5, "is_plausible": 0.5}
        for t in pmo.TASKS
    ]
    text, figures = pmo.page(rows)
    assert "not shown yet" in text and figures["genetic"]["sum"] == pytest.approx(2.0)
    assert "deco_hop" in figures["genetic"]["behind_best_published_without_prescreening"]
