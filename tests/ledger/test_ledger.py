import errno
import json
import math
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprogram.errors import BudgetSpent, ConfigError, DataError, SourceError
from reprogram.ledger import EVALUATION, Budget, Ledger, NamedRows, content_key


class Oracle:
    """Scores a word by its length and remembers every batch that it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, items: list[str]) -> list[float]:
        self.batches.append(items)
        return [float(len(item)) for item in items]

    @property
    def asked(self) -> list[str]:
        return [item for batch in self.batches for item in batch]


def test_repeated_keys_are_free_within_and_between_batches() -> None:
    oracle = Oracle()
    ledger = Ledger(oracle, key=str.lower)
    assert ledger(["a", "bb", "A", "a"]) == [1, 2, 1, 1]
    assert ledger(["BB", "ccc"]) == [2, 3]
    assert oracle.asked == ["a", "bb", "ccc"]
    assert ledger.calls == 3
    assert ledger.bill()["saved_share"] == 0.5


@given(st.lists(st.lists(st.text("abc", min_size=1, max_size=3), max_size=6), max_size=8), st.integers(1, 3))
def test_every_distinct_key_is_paid_once_and_answers_keep_their_order(requests: list[list[str]], batch: int) -> None:
    oracle = Oracle()
    ledger = Ledger(oracle, batch=batch)
    for request in requests:
        assert ledger(request) == [len(word) for word in request]
    assert sorted(oracle.asked) == sorted(set(oracle.asked))
    assert ledger.calls == len(oracle.asked) == sum(ledger.paid.values())


def test_budget_answers_what_it_can_then_stops() -> None:
    oracle = Oracle()
    ledger = Ledger(oracle, budget=Budget(queries=3))
    ledger(["a", "b"])
    with pytest.raises(BudgetSpent, match=r"budget\.queries=3; 3 calls paid for.*2 of 3 new items") as stop:
        ledger(["a", "ccc", "d", "e"])
    assert stop.value.answers == [1, 3, None, None]
    assert ledger(["ccc", "a"]) == [3, 1], "what is answered stays free"
    with pytest.raises(BudgetSpent):
        ledger(["f"])
    assert oracle.asked == ["a", "b", "ccc"]


def test_whole_requests_are_paid_for_or_not_at_all() -> None:
    oracle = Oracle()
    ledger = Ledger(oracle, budget=Budget(queries=3), whole=True)
    with pytest.raises(BudgetSpent, match=r"0 calls paid for.*4 of 4 new items"):
        ledger(list("abcd"))
    assert ledger(list("abc")) == [1, 1, 1] and ledger(["a"]) == [1]


def test_price_limits_all_calls_and_keeps_what_evaluation_needs() -> None:
    ledger = Ledger(Oracle(), budget=Budget(price=0.5, price_per_query=0.1, evaluation=2))
    with pytest.raises(BudgetSpent):
        ledger(list("abcd"))
    assert ledger(["x", "y"], EVALUATION) == [1, 1]
    assert ledger.bill()["by_kind"] == {"evaluation": 2, "training": 3}
    assert ledger.bill()["price"] == pytest.approx(0.5)


def test_evaluation_is_counted_apart_and_not_limited_by_training_queries() -> None:
    ledger = Ledger(Oracle(), budget=Budget(queries=1))
    ledger(["a"])
    assert ledger(["b", "c"], EVALUATION) == [1, 1]
    assert ledger.counts == {"training": 1, "evaluation": 2}


def test_journal_line_is_what_the_caller_promises(tmp_path: Path) -> None:
    with Ledger(Oracle(), journal=tmp_path / "calls.jsonl", rows=NamedRows("smiles", "score")) as ledger:
        ledger(["CC", "CCC"])
        ledger(["C"], EVALUATION)
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert lines == [
        {"call": 1, "smiles": "CC", "score": 2.0},
        {"call": 2, "smiles": "CCC", "score": 3.0},
        {"call": 3, "smiles": "C", "score": 1.0, "kind": "evaluation"},
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["calls.jsonl"], "nothing else is left behind"


def test_resume_replays_the_same_counts_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    def search(ledger: Ledger) -> list[tuple[int, float]]:
        seen = []
        for request in (["a", "bb"], ["bb", "ccc"], ["dddd", "e"]):
            ledger(request)
            seen.append((ledger.calls, ledger.remaining()))
        return seen

    whole = search(Ledger(Oracle(), budget=Budget(queries=9)))
    with Ledger(Oracle(), budget=Budget(queries=9), journal=tmp_path / "j") as first:
        first(["a", "bb"])
        first(["bb", "ccc"])
    oracle = Oracle()
    with Ledger(oracle, budget=Budget(queries=9), journal=tmp_path / "j") as second:
        assert second.calls == 0
        again = search(second)
    assert [calls for calls, _ in again] == [calls for calls, _ in whole]
    assert oracle.asked == ["dddd", "e"]
    assert [json.loads(line)["call"] for line in (tmp_path / "j").read_text().splitlines()] == [1, 2, 3, 4, 5]


def test_budget_counts_what_earlier_processes_paid(tmp_path: Path) -> None:
    with Ledger(Oracle(), budget=Budget(queries=3), journal=tmp_path / "j") as first:
        first(["a", "b"])
    with Ledger(Oracle(), budget=Budget(queries=3), journal=tmp_path / "j") as second:
        second(["c"])
        with pytest.raises(BudgetSpent):
            second(["d"])


def test_torn_last_line_is_repaired_and_that_call_alone_is_paid_again(tmp_path: Path) -> None:
    with Ledger(Oracle(), journal=tmp_path / "j") as ledger:
        ledger(["a", "bb"])
    text = (tmp_path / "j").read_bytes()
    for cut in range(text.index(b"\n") + 1, len(text)):
        (tmp_path / "j").write_bytes(text[:cut])
        oracle = Oracle()
        with Ledger(oracle, journal=tmp_path / "j") as ledger:
            assert ledger(["a", "bb"]) == [1, 2]
        assert oracle.asked == ["bb"]
        assert (tmp_path / "j").read_bytes() == text


def test_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"call": 1, "key": "a", "answer": 1}\nrubbish\n')
    with pytest.raises(DataError, match="line 2 is not a JSON object"):
        Ledger(Oracle(), journal=tmp_path / "j")


def test_two_runs_cannot_share_a_journal(tmp_path: Path) -> None:
    with (
        Ledger(Oracle(), journal=tmp_path / "j"),
        pytest.raises(ConfigError, match="in use by another run"),
    ):
        Ledger(Oracle(), journal=tmp_path / "j")


def test_an_item_that_throws_or_is_nan_costs_that_item_alone(tmp_path: Path) -> None:
    def moody(items: list[str]) -> list[float]:
        if "bad" in items:
            raise ValueError("no 3D shape")
        return [math.nan if item == "nan" else 1.0 for item in items]

    with Ledger(moody, journal=tmp_path / "j", rows=NamedRows("smiles", "score")) as ledger:
        answers = ledger(["a", "bad", "nan", "b"])
    assert [answers[0], answers[3]] == [1, 1] and math.isnan(answers[1]) and math.isnan(answers[2])
    rows = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    assert rows[1] == {"call": 2, "smiles": "bad", "score": None, "error": "ValueError: no 3D shape"}
    assert rows[2]["error"] == "the answer is NaN"
    with Ledger(Oracle(), journal=tmp_path / "j", rows=NamedRows("smiles", "score")) as again:
        assert math.isnan(again(["bad"])[0]) and again.reasons["bad"] == "ValueError: no 3D shape"


def test_call_may_answer_single_items_with_an_exception() -> None:
    ledger = Ledger(lambda items: [TimeoutError("gave up") if item == "b" else 1.0 for item in items], failed=None)
    assert ledger(["a", "b"]) == [1.0, None]
    assert ledger.reasons == {"b": "TimeoutError: gave up"}


def test_slow_item_times_out_alone() -> None:
    def slow(items: list[str]) -> list[float]:
        if "slow" in items:
            time.sleep(30)
        return [1.0] * len(items)

    ledger = Ledger(slow, timeout=0.1)
    answers = ledger(["a", "slow", "b"])
    assert answers[0] == answers[2] == 1 and "no answer within 0.1 s" in ledger.reasons["slow"]


def test_wrong_number_of_answers_is_one_sentence() -> None:
    with pytest.raises(DataError, match="2 items were sent, 1 answers came back"):
        Ledger(lambda items: [1.0])(["a", "b"])


@pytest.mark.parametrize("workers", [1, 3])
def test_failing_service_keeps_what_was_answered_and_is_not_billed(tmp_path: Path, workers: int) -> None:
    def service(items: list[str]) -> list[float]:
        if "c" in items:
            raise SourceError("The server is gone.")
        return [1.0] * len(items)

    with (
        Ledger(service, journal=tmp_path / "j", batch=1, workers=workers) as ledger,
        pytest.raises(SourceError, match="gone"),
    ):
        ledger(list("abcdefgh"))
    oracle = Oracle()
    with Ledger(oracle, journal=tmp_path / "j") as again:
        paid = sum(again.paid.values())
        again(list("abcdefgh"))
    assert {"a", "b"}.isdisjoint(oracle.asked) and "c" in oracle.asked
    assert paid + len(oracle.asked) == 8


def test_workers_call_side_by_side_and_answers_keep_their_order() -> None:
    together = threading.Barrier(3, timeout=10)

    def call(items: list[str]) -> list[float]:
        together.wait()  # passes only when three calls are under way at once
        return [float(item) for item in items]

    words = [str(i) for i in range(12)]
    assert Ledger(call, batch=2, workers=3)(words) == list(range(12))


def test_vector_answers_come_back_as_they_were(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((3, 2, 2)).astype(np.float32)
    for _ in range(2):
        with Ledger(lambda batch: [b.sum(0) for b in batch], content_key, journal=tmp_path / "j") as ledger:
            answers = ledger(images)
        np.testing.assert_allclose(answers, images.sum(1), rtol=1e-6)
    assert len((tmp_path / "j").read_text().splitlines()) == 3


def test_mapping_answers_are_spread_over_the_line(tmp_path: Path) -> None:
    rows = NamedRows("smiles", "score")
    with Ledger(
        lambda m: [{"score": 0.5, "parts": {"qed": 0.9}} for _ in m], journal=tmp_path / "j", rows=rows
    ) as first:
        first(["CC"])
    assert json.loads((tmp_path / "j").read_text()) == {
        "call": 1,
        "smiles": "CC",
        "score": 0.5,
        "parts": {"qed": 0.9},
    }
    with Ledger(Oracle(), journal=tmp_path / "j", rows=rows) as again:
        assert again(["CC"]) == [{"score": 0.5, "parts": {"qed": 0.9}}]


def test_content_key_sees_type_shape_and_values() -> None:
    a = np.zeros((2, 3), np.float32)
    keys = {content_key(x) for x in (a, a.T, a.astype(np.float64), a + 1)}
    assert len(keys) == 4 and content_key(a) == content_key(a.copy(order="F"))


def test_full_disk_while_journalling_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has no room for the lines until the ballast is given back."""
    ballast = tmp_path / ".j.ballast"
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if ballast.exists() and b"ccc" in bytes(data):
            write(handle, data[:5])  # half a line reaches the disk
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr("reprogram.journal.os.write", full)
    with Ledger(Oracle(), journal=tmp_path / "j", batch=1) as ledger:
        ledger(["a"])
        with pytest.raises(DataError, match=r"is full .*all 2 answers so far are kept"):
            ledger(["ccc", "dd"])
    monkeypatch.undo()
    oracle = Oracle()
    with Ledger(oracle, journal=tmp_path / "j") as again:
        assert again(["a", "ccc", "dd"]) == [1, 3, 2]
    assert oracle.asked == ["dd"]


def test_no_room_before_sending_pays_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("reprogram.journal.os.posix_fallocate", none)
    oracle = Oracle()
    with (
        Ledger(oracle, journal=tmp_path / "j") as ledger,
        pytest.raises(DataError, match=r"no room for more answers .*nothing more was sent"),
    ):
        ledger(["a"])
    assert oracle.asked == []


def test_calls_held_back_cannot_be_spent_and_are_there_afterwards() -> None:
    ledger = Ledger(lambda items: [1.0] * len(items), budget=Budget(queries=10), whole=True)
    ledger(["a", "b"])
    with ledger.holding_back(6):
        assert ledger.remaining() == 2 and ledger.remaining(EVALUATION) == float("inf")
        with pytest.raises(BudgetSpent):
            ledger(["c", "d", "e"])
        ledger(["a", "b", "c"])
    assert ledger.remaining() == 7


def test_price_counts_each_new_key_once_and_pays_for_nothing() -> None:
    ledger = Ledger(lambda items: [1.0] * len(items))
    ledger(["a"])
    assert ledger.price(["a", "b", "b", "c"]) == 2 and ledger.calls == 1


def test_answers_that_come_while_others_are_counted_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ALL_COMPLETED, wait

    from reprogram.ledger import ledger as module

    first = threading.Event()

    def work(items: list[str]) -> list[float]:
        if items != ["a"]:
            first.wait(5)  # the others end after the ledger has been told of the first
        return [float(len(item)) for item in items]

    def told_early(running: set, return_when: str) -> object:
        found = wait(running, return_when=return_when)
        if running:
            first.set()
        wait(running, return_when=ALL_COMPLETED)
        return found

    monkeypatch.setattr(module, "wait", told_early)
    ledger = Ledger(work, workers=3, batch=1)
    assert ledger(["a", "bb", "ccc"]) == [1, 2, 3]
    assert ledger.calls == ledger.paid["training"] == 3
