"""What a search sees of the evaluator."""

import math

import numpy as np
import pytest

from molecules.chemistry import canonical
from molecules.evaluator import DiversityFilter, Evaluator, TargetReached
from molecules.objective import Objective
from molecules.oracles.descriptor import Descriptor
from molecules.search.stoned import Stoned
from reprogram.errors import BudgetSpent, ConfigError

START = ["CCO", "c1ccccc1CC(=O)O", "CC(=O)Nc1ccc(O)cc1"]


def qed(budget: int, **options) -> Evaluator:
    return Evaluator(Objective.of(Descriptor("qed")), budget, **options)


def test_repeats_are_free_however_they_are_written():
    problem = qed(10)
    problem.score(["OCC", "CCO", "C(O)C"])
    assert [s.smiles for s in problem.calls] == ["CCO"]
    problem.score(["OCC"])
    assert problem.left == 9


def test_limit_is_hard_and_pays_for_what_it_can():
    problem = qed(2)
    with pytest.raises(BudgetSpent):
        problem.score(["C", "CC", "CCC"])
    assert [s.smiles for s in problem.calls] == ["C", "CC"]


def test_unparsable_costs_nothing():
    problem = qed(5)
    answer = problem.score(["not a molecule", "CC"])
    assert math.isnan(answer[0].score) and answer[0].reason
    assert problem.left == 4


def test_target_stops_the_run():
    problem = qed(100, target=0.3)
    with pytest.raises(TargetReached):
        problem.score(["CC(=O)Nc1ccc(O)cc1"])


def test_negative_budget_is_refused():
    with pytest.raises(ConfigError, match="budget is -1"):
        qed(-1)


def test_diversity_filter_hides_a_full_scaffold_from_the_search_only():
    problem = qed(10, diversity=DiversityFilter(bucket=1, min_score=0.1))
    seen = problem.score(["Cc1ccccc1", "CCc1ccccc1", "c1ccncc1"])
    assert seen[0].score > 0 and seen[1].score == 0 and seen[2].score > 0
    assert all(s.score > 0 for s in problem.calls)


def test_a_run_repeats_from_its_journal(tmp_path):
    first = qed(60, journal=tmp_path / "calls.jsonl")
    Stoned(batch=10).run(first, START, np.random.default_rng(0))
    first.close()
    again = qed(60, journal=tmp_path / "calls.jsonl")
    again.objective.terms[0].oracle.answers = lambda smiles: pytest.fail(f"{smiles} were evaluated again")
    Stoned(batch=10).run(again, START, np.random.default_rng(0))
    assert again.calls == first.calls and len(again.calls) == again.replayed == 60
    assert all(canonical(s.smiles) == s.smiles for s in again.calls)
