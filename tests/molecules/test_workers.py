"""Work side by side: same answers in order, and one bad item costs itself alone."""

import os
import subprocess
import sys
import time

import pytest

from molecules import workers as module
from molecules.workers import Workers
from reprogram.errors import ConfigError, DataError


def lengths(items):
    return [len(item) for item in items]


def raises_on_bad(items):
    if "bad" in items:
        raise ValueError("cannot score bad")
    return lengths(items)


def dies_on_bad(items):
    if "bad" in items:
        os._exit(3)
    return lengths(items)


def hangs_on_bad(items):
    if "bad" in items:
        time.sleep(60)
    return lengths(items)


def stops(items):
    raise DataError("the endpoint is gone.")


ITEMS = ["a", "bb", "bad", "dddd", "e", "ff"]


@pytest.fixture(params=["serial", "processes"])
def pool(request, monkeypatch):
    monkeypatch.setattr(module, "WORTHWHILE", 0.0)  # processes even for work this small
    return Workers(request.param, jobs=2)


def test_answers_come_in_order(pool):
    assert pool(lengths, ITEMS) == [1, 2, 3, 4, 1, 2]
    assert pool(lengths, []) == []


def test_one_bad_item_costs_itself_alone(pool):
    answers = pool(raises_on_bad, ITEMS)
    assert str(answers.pop(2)) == "cannot score bad"
    assert answers == [1, 2, 4, 1, 2]


def test_an_error_of_the_whole_oracle_is_passed_on(pool):
    with pytest.raises(DataError, match="the endpoint is gone"):
        pool(stops, ITEMS)


def test_an_item_that_kills_its_process_costs_itself_alone(monkeypatch):
    monkeypatch.setattr(module, "WORTHWHILE", 0.0)
    pool = Workers("processes", jobs=2)
    assert pool(lengths, ["a"]) == [1]  # it is known how long one takes; nothing is run here any more
    answers = pool(dies_on_bad, ITEMS)
    assert "worker process ended" in str(answers.pop(2))
    assert answers == [1, 2, 4, 1, 2]


def test_an_item_that_hangs_costs_itself_alone():
    pool = Workers("processes", jobs=2, timeout=3.0)
    began = time.monotonic()
    answers = pool(hangs_on_bad, ITEMS)
    assert "no answer within 3 s" in str(answers.pop(2))
    assert answers == [1, 2, 4, 1, 2]
    assert time.monotonic() - began < 30


def counts_its_batch(items):
    return [len(items)] * len(items)


def test_a_batch_is_never_split(pool):
    """A program that starts once a batch of 4 is not started once a molecule."""
    assert pool(counts_its_batch, list("abcdefgh"), 4) in ([4] * 8, [8] * 8)
    assert pool.portion(100) >= 100


def test_of_a_batch_that_ends_its_process_only_the_bad_item_is_lost(monkeypatch):
    monkeypatch.setattr(module, "WORTHWHILE", 0.0)
    pool = Workers("processes", jobs=2)
    assert pool(lengths, ["a"]) == [1]
    answers = pool(dies_on_bad, ITEMS, 3)
    assert "worker process ended" in str(answers.pop(2))
    assert answers == [1, 2, 4, 1, 2]


def test_quick_work_starts_no_process():
    code = (
        "from molecules.workers import Workers; import sys;"
        "assert Workers()(lambda items: [len(i) for i in items], ['a', 'bb']) == [1, 2];"
        "assert 'joblib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"backend": "proceses"}, "did you mean 'processes'"),
        ({"backend": "dask"}, "needs parallel.address"),
        ({"jobs": 0}, "parallel.jobs=0 must be"),
        ({"timeout": 0}, "parallel.timeout=0 must be"),
    ],
)
def test_mistakes_are_said(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Workers(**options)
