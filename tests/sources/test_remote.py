import importlib.util
import json
import logging
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprogram.errors import BudgetSpent, ConfigError, SourceError
from reprogram.ledger import Budget
from reprogram.sources.remote import RemoteSource

_spec = importlib.util.spec_from_file_location("fake_server", Path(__file__).with_name("fake_server.py"))
assert _spec and _spec.loader
fake = importlib.util.module_from_spec(_spec)
sys.modules["fake_server"] = fake  # the server's annotations and the client script below name it
_spec.loader.exec_module(fake)
FakeServer = fake.FakeServer

LABELS = ["ant", "bee", "cat", "dog", "elk"]


def connect(server: Any, **options: Any) -> RemoteSource:
    settings: dict[str, Any] = {"model": "tiny", "labels": LABELS, "pause": 0.01, "retries": 2, "timeout": 5}
    return RemoteSource(server if isinstance(server, str) else server.url, **(settings | options))


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(seed))


def test_answers_are_the_servers_log_probabilities_in_order() -> None:
    with FakeServer() as server:
        source = connect(server, batch=3, workers=3)
        x = images(20)
        logits = source(x).logits
    torch.testing.assert_close(logits.exp(), torch.from_numpy(fake.probabilities(x.numpy())), atol=1e-5, rtol=0)
    assert server.requests == 7, "batches of 3"
    assert source.version == "7" and source.spec.answers == "log_probabilities"


@pytest.mark.parametrize("datatype", ["UINT8", "BYTES"])
def test_servers_that_read_whole_pixels_or_files_get_them(datatype: str) -> None:
    with FakeServer(datatype=datatype) as server:
        x = images(4)
        logits = connect(server)(x).logits
    rounded = (x * 255).round() / 255
    torch.testing.assert_close(logits.exp(), torch.from_numpy(fake.probabilities(rounded.numpy())), atol=1e-5, rtol=0)


def test_same_image_is_asked_once_and_costs_nothing_again(tmp_path: Path) -> None:
    with FakeServer() as server:
        first = connect(server, cache=tmp_path / "cache", journal=tmp_path / "a")
        first(images(6))
        first(images(6))
        second = connect(server, cache=tmp_path / "cache", journal=tmp_path / "b")
        torch.testing.assert_close(second(images(6)).logits, first(images(6)).logits)
    assert len(server.answered) == 6
    assert first.ledger.bill()["queries"] == 6 and second.ledger.bill()["queries"] == 0
    assert second.ledger.bill()["saved_share"] == 1


def test_server_down_at_the_start_is_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SourceError, match=r"cannot be reached \(ConnectError\) \(tries: 3\)"):
        connect(f"http://127.0.0.1:{port}")


def test_busy_server_is_asked_again_and_paid_once(tmp_path: Path) -> None:
    def busy(server: Any, x: np.ndarray) -> Any:
        return (429, {"Retry-After": "0"}, b"") if server.requests < 3 else None

    with FakeServer(busy) as server:
        source = connect(server, journal=tmp_path / "j")
        source(images(4))
    assert server.requests == 3 and source.ledger.bill()["queries"] == 4


def test_lost_connections_are_tried_again_and_are_on_the_bill(tmp_path: Path) -> None:
    def hang_up(server: Any, x: np.ndarray) -> Any:
        if server.requests in (2, 3):
            raise ConnectionError  # the handler dies: the client sees a closed connection
        return None

    with FakeServer(hang_up) as server:
        source = connect(server, batch=2, journal=tmp_path / "j")
        x = images(8)
        logits = source(x).logits
    torch.testing.assert_close(logits.exp(), torch.from_numpy(fake.probabilities(x.numpy())), atol=1e-5, rtol=0)
    bill = source.ledger.bill()
    assert server.requests == 6 and len(server.answered) == 8
    assert bill["queries"] == 12 and bill["sent_but_unanswered"] == 4, "nobody can know if what was lost is billed"


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_token_stops_at_once_and_is_never_shown(
    status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "s3cr3t-token")
    caplog.set_level(logging.DEBUG)
    with FakeServer(lambda server, x: (status, {}, b"no")) as server:
        source = connect(server, token_env="SERVICE_TOKEN", journal=tmp_path / "j", cache=tmp_path / "c")
        with pytest.raises(SourceError, match=f"refused with {status}") as error:
            source(images(4))
    assert server.requests == 1 and server.tokens == {"Bearer s3cr3t-token"}
    assert source.ledger.bill()["queries"] == 0
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "s3cr3t" not in str(error.value) + caplog.text + repr(source) + str(source.options) + kept.decode("latin1")


def test_missing_token_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVICE_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"source\.token_env=SERVICE_TOKEN"):
        connect("http://127.0.0.1:1", token_env="SERVICE_TOKEN")


def _answers(values: np.ndarray, **more: Any) -> Any:
    return lambda server, x: (200, {}, fake.answer(values[: len(x)], **more))


UNIFORM = np.full((8, 5), 0.2)
WRONG = {
    "html": (lambda server, x: (200, {"Content-Type": "text/html"}, b"<html>hi"), "text/html that is not JSON"),
    "nan": (_answers(np.full((8, 5), np.nan)), "no answer for 4 of 4 images: the answer is NaN"),
    "null": (
        lambda server, x: (200, {}, fake.answer(UNIFORM[:4], data=[None] * 20)),
        "no answer for 4 of 4 images: the answer is NaN",
    ),
    "sum": (_answers(UNIFORM / 2), "sum to 0.5, not 1"),
    "logits": (_answers(UNIFORM - 3), "not probabilities; try source.answers=logits"),
    "rows": (lambda server, x: (200, {}, fake.answer(UNIFORM[:3])), r"shape \(3, 5\) for 4 images"),
    "shape": (_answers(UNIFORM, shape=[9, 9]), "does not fill its own shape"),
    "classes": (_answers(np.full((8, 6), 1 / 6)), "6 values an image, but source.labels names 5"),
    "empty": (lambda server, x: (200, {}, b"{}"), "answered without outputs"),
    "bad request": (lambda server, x: (400, {}, b'{"error": "bad size"}'), "status 400: .*bad size"),
    "broken": (lambda server, x: (503, {}, b""), "status 503 .tries: 3.; earlier answers are kept"),
    "version": (lambda server, x: (200, {}, fake.answer(UNIFORM[:4], "8")), "changed from version 7 to 8"),
    "slow": (fake.slow(1.0), "did not answer within 0.2 s .tries: 2."),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_answers_end_in_one_sentence(case: str) -> None:
    misbehave, sentence = WRONG[case]
    with FakeServer(misbehave) as server:
        options: dict[str, Any] = {"timeout": 0.2, "retries": 1} if case == "slow" else {}
        source = connect(server, **options)
        with pytest.raises(SourceError, match=sentence) as error:
            source(images(4))
    assert "\n" not in str(error.value)


def test_single_image_without_an_answer_counts_as_undecided() -> None:
    def one_nan(server: Any, x: np.ndarray) -> Any:
        values = fake.probabilities(x)
        values[1] = np.nan
        return 200, {}, fake.answer(values)

    with FakeServer(one_nan) as server:
        source = connect(server)
        logits = source(images(4)).logits
    torch.testing.assert_close(logits[1].exp(), torch.full((5,), 0.2))
    assert source.ledger.bill()["failed"] == 1 and source.ledger.bill()["queries"] == 4


@pytest.mark.parametrize("where", ["metadata", "index"])
def test_cache_of_another_model_version_is_refused(where: str, tmp_path: Path) -> None:
    with FakeServer(version="1") as server:
        server.names_versions = where == "metadata"
        connect(server, cache=tmp_path)(images(1))
        server.version = "2"
        with pytest.raises(SourceError, match=r"belongs to another model .version 1, now 2"):
            connect(server, cache=tmp_path)


def test_budget_smaller_than_one_batch_is_one_sentence_and_pays_for_nothing(tmp_path: Path) -> None:
    with FakeServer() as server:
        source = connect(server, budget=Budget(queries=3), batch=8, journal=tmp_path / "j")
        with pytest.raises(BudgetSpent, match=r"budget\.queries=3; 0 calls paid for.*8 of 8 new items"):
            source(images(8))
        assert len(server.answered) == 0
        source(images(3))


def test_top_k_with_names_spreads_what_is_missing() -> None:
    def best_two(server: Any, x: np.ndarray) -> Any:
        outputs = [
            {"name": "scores", "datatype": "FP32", "shape": [len(x), 2], "data": [0.6, 0.1] * len(x)},
            {"name": "labels", "datatype": "BYTES", "shape": [len(x), 2], "data": ["cat", "ant"] * len(x)},
        ]
        return 200, {}, json.dumps({"outputs": outputs}).encode()

    with FakeServer(best_two) as server:
        probabilities = connect(server, answers="top_k")(images(2)).logits.exp()
    torch.testing.assert_close(probabilities, torch.tensor([[0.1, 0.1, 0.6, 0.1, 0.1]] * 2))


def test_unknown_label_is_named() -> None:
    output = {"outputs": [{"name": "label", "datatype": "BYTES", "shape": [1], "data": ["yak"]}]}
    with (
        FakeServer(lambda server, x: (200, {}, json.dumps(output).encode())) as server,
        pytest.raises(SourceError, match=r"the label 'yak', which source\.labels does not have"),
    ):
        connect(server, answers="label", votes=1)(images(1))


def test_server_that_moved_is_still_the_same_model(tmp_path: Path) -> None:
    with FakeServer() as first:
        before = connect(first, cache=tmp_path)
        before(images(3))
    with FakeServer() as second:
        after = connect(second, cache=tmp_path)
        after(images(3))
    assert after.fingerprint() == before.fingerprint() and second.requests == 0


def test_server_killed_and_restarted_in_mid_run_is_paid_once(tmp_path: Path) -> None:
    """The first server dies after eight images; a second one takes over the run."""

    def dying(server: Any, x: np.ndarray) -> Any:
        return (503, {}, b"") if len(server.answered) >= 8 else None

    options: dict[str, Any] = {"cache": tmp_path / "c", "journal": tmp_path / "j", "batch": 2, "retries": 1}
    with FakeServer(dying) as server:
        source = connect(server, **options)
        with pytest.raises(SourceError, match="earlier answers are kept"):
            source(images(20))
        source.ledger.close()
        answered = set(server.answered)
        server.misbehave = None
        again = connect(server, **options)
        again(images(20))
    assert len(answered) == 8 and len(server.answered) == 20 and len(set(server.answered)) == 20
    assert again.ledger.bill()["queries"] == 20


CLIENT = """
import sys, torch
from reprogram.sources.remote import RemoteSource
url, folder = sys.argv[1:]
source = RemoteSource(url, "tiny", ["ant", "bee", "cat", "dog", "elk"], batch=2, workers=2,
                      journal=folder + "/j", cache=folder + "/c")
x = torch.rand((60, 3, 4, 4), generator=torch.Generator().manual_seed(0))
for start in range(0, 60, 10):
    source(x[start : start + 10])
print(source.ledger.bill()["queries"], source.ledger.bill()["sent_but_unanswered"], source.ledger.calls)
"""


def test_client_killed_in_mid_run_pays_for_no_answered_query_twice(tmp_path: Path) -> None:
    with FakeServer(fake.slow(0.02)) as server:
        command = [sys.executable, "-c", CLIENT, server.url, str(tmp_path)]
        process = subprocess.Popen(command)
        while len(server.answered) < 20:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.1)
        with sqlite3.connect(tmp_path / "j" / "answers.db") as database:
            (kept,) = database.execute("SELECT count(*) FROM calls").fetchone()
        before = len(server.answered)
        done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    queries, lost, calls = map(int, done)
    assert len(set(server.answered)) == 60, "every image was answered"
    again = len(server.answered) - before
    assert again <= 60 - kept, "only what was not kept is asked again"
    assert len(server.answered) - 60 <= 6, "two requests of two images under way, one about to be kept"
    assert calls == 60 and queries == calls + lost, "what was under way at the kill is in the bill"
    assert queries >= len(server.answered), "the bill is never below the service's own count"


def test_client_keeps_several_requests_under_way() -> None:
    """Counted where they arrive, because a busy machine makes no promise about seconds."""
    now, most, lock = 0, 0, threading.Lock()

    def counted(server, images):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.1)
        with lock:
            now -= 1

    with FakeServer(counted) as server:
        source = connect(server, batch=1, workers=8)
        source(images(16))
    assert 3 <= most <= 8
