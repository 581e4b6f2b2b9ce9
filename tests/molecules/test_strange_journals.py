"""Journals and outcomes that another hand wrote: one sentence, never a traceback, never another's answer."""

import json

import pytest

import molecules
from molecules.evaluator import DiversityFilter, Evaluator
from molecules.objective import Scored
from molecules.tasks.per_start import run_one
from reprogram.errors import ConfigError, DataError
from reprogram.robustness.result_cache import ResultCache

OPTIONS = {"search": "genetic", "constraints": "none", "budget": 2}


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    journal = tmp_path_factory.mktemp("journal") / "calls.jsonl"
    molecules.design("qed", ["CCO", "CCN"], journal=journal, **OPTIONS)
    return [json.loads(line) for line in journal.read_text().splitlines()]


@pytest.mark.parametrize(
    "change", [{"score": 10**400}, {"raw": "x"}, {"raw": [1]}, {"parts": [1]}, {"parts": {"qed": 10**400}}, {"constraints": [1]}]
)
def test_answers_of_another_form_are_refused(lines, tmp_path, change):
    journal = tmp_path / "calls.jsonl"
    journal.write_text("\n".join(json.dumps(row) for row in (lines[0] | change, *lines[1:])) + "\n")
    with pytest.raises(DataError, match="holds answers of another objective"):
        molecules.design("qed", ["CCO", "CCN"], journal=journal, **OPTIONS)


@pytest.mark.parametrize("content", ["", "[]", '{"start": "CCO"}', '{"start": "CCN", "number": 1}', "[" * 100_000])
def test_an_outcome_that_is_none(tmp_path, content):
    (tmp_path / "00001.json").write_text(content)
    with pytest.raises(ConfigError, match=r"00001\.json is not"):
        run_one({}, "CCO", tmp_path, 1)


@pytest.mark.parametrize("row", [{"check": "pgd"}, {"check": "pgd", "outcome": {"rows": 3}}, {"outcome": {}}])
def test_finished_checks_that_are_none(tmp_path, row):
    (tmp_path / "robustness.jsonl").write_text(json.dumps({"key": "k"} | row) + "\n")
    with pytest.raises(DataError, match="no finished check"):
        ResultCache(tmp_path / "robustness.jsonl", "k", resume=True)


def test_a_full_bucket_never_counts_more_than_an_open_one():
    """0 is the best of all scores where values are negative, as of an oracle that should be small."""
    small = molecules.Term(molecules.load_oracle("descriptor", descriptor="logp"))
    objective = molecules.Objective([small], aggregate="arithmetic")
    diversity = DiversityFilter(bucket=1, min_score=-100.0)
    with Evaluator(objective, 10, diversity=diversity) as evaluator:
        first, second = evaluator.score(["OCCO", "OCC(O)CO"])
        assert first.score < 0
        assert second.score <= first.score
        assert all(isinstance(call, Scored) and call.score > -100 for call in evaluator.calls)
