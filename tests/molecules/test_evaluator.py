"""What is evaluated: once, journalled, replayed exactly, stopped when every molecule fails."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molecules.constraints import Constraints, Similar
from molecules.evaluator import Evaluator
from molecules.objective import Objective
from molecules.oracles.base import Answer, Oracle
from reprogram.errors import BudgetSpent, DataError

MOLECULES = ["C" * n for n in range(1, 121)]


class Length(Oracle):
    """Scores a third of the atoms (not a round number); ``bad`` ones fail."""

    name = "length"

    def __init__(self, bad=()):
        self.asked, self.bad = [], set(bad)

    def answers(self, smiles):
        self.asked += smiles
        return [Answer(math.nan, "too odd") if s in self.bad else Answer(len(s) / 3) for s in smiles]


def evaluator(oracle, budget=1000, journal=None):
    return Evaluator(Objective.of(oracle, Constraints([Similar("CCO", 0.1)])), budget, journal=journal)


def test_a_journal_answers_exactly_as_the_oracle_did_and_nothing_is_scored_twice(tmp_path):
    journal = tmp_path / "calls.jsonl"
    with_bad = Length(bad=MOLECULES[3:5])
    first = evaluator(with_bad, journal=journal)
    results = first.score(MOLECULES[:10]) + first.score(MOLECULES[5:20])
    first.close()
    assert with_bad.asked == MOLECULES[:20]
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [r["call"] for r in rows] == list(range(1, 21)) and [r["smiles"] for r in rows] == MOLECULES[:20]
    assert rows[3]["score"] is None and rows[3]["error"] == "length: too odd"
    silent = Length()
    again = evaluator(silent, journal=journal)
    replayed = again.score(MOLECULES[:10]) + again.score(MOLECULES[5:20])
    again.close()
    assert silent.asked == []
    assert [str(r) for r in replayed] == [str(r) for r in results]
    assert again.replayed == 20 and again.best_score == first.best_score


def test_a_failing_oracle_stops_after_fifty_with_its_own_words():
    oracle = Length(bad=MOLECULES)
    with pytest.raises(DataError, match=r"first 50 molecules.*length: too odd"):
        evaluator(oracle).score(MOLECULES)
    assert len(oracle.asked) == 50


def test_one_success_among_failures_goes_on():
    oracle = Length(bad=MOLECULES[:48] + MOLECULES[49:])
    results = evaluator(oracle).score(MOLECULES)
    assert len(results) == 120 and sum(not math.isnan(r.score) for r in results) == 1


def test_the_budget_holds_even_against_a_greedy_search():
    oracle = Length()
    with pytest.raises(BudgetSpent):
        evaluator(oracle, budget=7).score(MOLECULES[:10])
    assert len(oracle.asked) == 7


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 119), max_size=30), max_size=6))
def test_every_molecule_reaches_the_oracle_at_most_once(batches):
    oracle = Length()
    paid = evaluator(oracle)
    for batch in batches:
        assert [r.smiles for r in paid.score([MOLECULES[i] for i in batch])] == [MOLECULES[i] for i in batch]
    assert len(oracle.asked) == len(set(oracle.asked)) == len({i for b in batches for i in b})
