"""The bill against the service's own count, one row a fault: equal, or above where nobody here can know the truth."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from faulty_server import LABELS, Fault, Handler, Server, answer, probabilities

from reprogram.errors import BudgetSpent, ReprogramError, SourceError
from reprogram.ledger import Budget
from reprogram.sources.callable import CallableSource
from reprogram.sources.remote import RemoteSource

IMAGES, BATCH = 8, 2


def images(count: int = IMAGES, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(seed))


def first(times: int, act: Callable[[Handler, np.ndarray], Any], skip: int = 1) -> Fault:
    """``act`` on so many requests after the first ``skip``; the others are served."""

    def fault(handler: Handler, x: np.ndarray) -> bool:
        if skip < handler.server.requests <= skip + times:
            act(handler, x)
            return True
        return False

    return fault


def drip(handler: Handler, x: np.ndarray) -> None:
    """A byte now and then, for ever: no single read ever times out."""
    handler.server.bill(len(x))
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.05)


def drip_body(handler: Handler, x: np.ndarray) -> None:
    handler.server.bill(len(x))
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.05)


def silent(handler: Handler, x: np.ndarray) -> None:
    """Answers, too late."""
    handler.server.bill(len(x))
    time.sleep(0.5)
    handler.close_connection = True


def truncated(handler: Handler, x: np.ndarray) -> None:
    body = answer(probabilities(x))
    handler.sell(x, body[: len(body) // 2], length=len(body))
    handler.close_connection = True


def reset_in_the_answer(handler: Handler, x: np.ndarray) -> None:
    truncated(handler, x)
    handler.wfile.flush()
    time.sleep(0.05)
    handler.reset()


def huge(handler: Handler, x: np.ndarray) -> None:
    with contextlib.suppress(OSError):
        handler.sell(x, b" " * (8 << 20))


def one_is_bad(handler: Handler, x: np.ndarray) -> bool:
    """The darkest image is refused, and every request that holds it."""
    if (x.reshape(len(x), -1).sum(1) == images().flatten(1).sum(1).min().item()).any():
        handler.reply(400, b'{"error": "cannot read image"}')
        return True
    return False


def with_row(value: float) -> Callable[[Handler, np.ndarray], None]:
    def sell(handler: Handler, x: np.ndarray) -> None:
        values = probabilities(x).astype(float)
        values[0] = value
        handler.sell(x, answer(values))

    return sell


def says(body: Callable[[np.ndarray], bytes], **more: Any) -> Callable[[Handler, np.ndarray], None]:
    return lambda handler, x: handler.sell(x, body(x), **more)


def refuses(status: int, **headers: str) -> Callable[[Handler, np.ndarray], None]:
    return lambda handler, x: handler.reply(status, b"{}", **headers)


@dataclass
class Scenario:
    """fault: what goes wrong, once. ends: the sentence that ends the first process, None where it gets through.

    unknown: images of which nobody here can know whether the service has billed them. failed: images without an answer.
    """

    fault: Fault
    ends: str | None = None
    unknown: int = 0
    failed: int = 0
    options: dict[str, Any] = field(default_factory=dict)


FAST = {"timeout": 0.2}
SCENARIOS = {
    "server errors": Scenario(first(2, refuses(500))),
    "busy, with Retry-After in seconds": Scenario(first(1, refuses(429, Retry_After="0"))),
    "busy, with Retry-After as a date": Scenario(
        first(1, lambda h, x: h.reply(503, b"", Retry_After=formatdate(time.time() - 5, usegmt=True)))
    ),
    "a gateway that gives up": Scenario(first(1, refuses(504)), unknown=BATCH),
    "one image is refused": Scenario(one_is_bad, failed=1),
    "every image is refused": Scenario(first(3, refuses(400)), ends="None of 2 inputs .* has an answer: .*status 400"),
    "time-out": Scenario(first(1, silent), unknown=BATCH, options=FAST),
    "slow drip of the head": Scenario(first(1, drip), unknown=BATCH, options=FAST),
    "slow drip of the body": Scenario(first(1, drip_body), unknown=BATCH, options=FAST),
    "truncated body": Scenario(first(1, truncated), unknown=BATCH),
    "reset in the answer": Scenario(first(1, reset_in_the_answer), unknown=BATCH),
    "reset before the answer": Scenario(first(1, lambda h, x: h.reset()), unknown=BATCH),
    "length below the body": Scenario(
        first(1, says(lambda x: answer(probabilities(x)), length=20)), ends="is not JSON"
    ),
    "HTML for JSON": Scenario(first(1, says(lambda x: b"<html>login</html>")), ends="is not JSON"),
    "JSON of another kind": Scenario(first(1, says(lambda x: b'{"outputs": [{"data": {"a": 1}}]}')), ends="shape"),
    "numbers beyond all floats": Scenario(
        first(1, says(lambda x: answer(probabilities(x), data=[10**400] * 10))), ends="cannot be read"
    ),
    "outputs that are no list": Scenario(first(1, says(lambda x: b'{"outputs": 7}')), ends="cannot be read"),
    "NaN for one image": Scenario(first(1, with_row(float("nan"))), failed=1),
    "infinity for one image": Scenario(first(1, with_row(float("inf"))), failed=1),
    "wrong shape": Scenario(first(1, says(lambda x: answer(probabilities(x), shape=[9, 9]))), ends="own shape"),
    "wrong number of rows": Scenario(first(1, says(lambda x: answer(probabilities(x)[:1]))), ends=r"\(1, 5\) for 2"),
    "huge body": Scenario(first(1, huge), ends="more than 1,049,216 bytes"),
    "redirect": Scenario(first(1, refuses(302, Location="http://127.0.0.1:9/")), ends="status 302"),
    "no access": Scenario(first(1, refuses(401)), ends="refused with 401"),
}


def connect(url: str, folder: Path, **options: Any) -> RemoteSource:
    settings: dict[str, Any] = {"batch": BATCH, "retries": 3, "pause": 0.01, "timeout": 5.0, "journal": folder / "a"}
    return RemoteSource(url, "tiny", LABELS, **(settings | options))


@pytest.mark.parametrize("name", SCENARIOS)
def test_bill_is_the_services_own_count_whatever_goes_wrong(name: str, tmp_path: Path) -> None:
    """Once through, or until it ends; then again as a new process would. Bill and count are compared after both."""
    scenario, x = SCENARIOS[name], images()
    with Server(scenario.fault) as server:
        source = connect(server.url, tmp_path, **scenario.options)
        if scenario.ends is None:
            source(x)
        else:
            with pytest.raises(SourceError, match=scenario.ends) as error:
                source(x)
            assert "\n" not in str(error.value)
        agree(source, server, scenario.unknown)
        source.ledger.close()
        again = connect(server.url, tmp_path, **scenario.options)
        before = server.requests
        values = again(x).logits.exp()
        assert scenario.ends is not None or server.requests == before, "nothing is asked twice"
        agree(again, server, scenario.unknown)
        assert again.ledger.bill()["failed"] == scenario.failed
    wrong = ~torch.isclose(values, torch.from_numpy(probabilities(x.numpy())), atol=1e-5).all(1)
    assert int(wrong.sum()) == scenario.failed and torch.isfinite(values).all()


def agree(source: RemoteSource, server: Server, unknown: int) -> None:
    bill = source.ledger.bill()
    assert bill["sent_but_unanswered"] == unknown
    assert bill["queries"] - unknown <= server.answered <= bill["queries"]
    if not unknown:
        assert bill["queries"] == server.answered


def test_slow_drip_ends_at_the_deadline(tmp_path: Path) -> None:
    with Server(first(9, drip, skip=0)) as server:
        source = connect(server.url, tmp_path, timeout=0.3, retries=0)
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"did not answer within 0\.3 s"):
            source(images(2))
        assert time.monotonic() - started < 1.0


def test_duplicates_are_billed_once(tmp_path: Path) -> None:
    with Server() as server:
        source = connect(server.url, tmp_path)
        source(images()[torch.tensor([0, 1, 1, 0, 2, 2, 2])])
        source(images()[:3])
        assert source.ledger.bill()["queries"] == server.answered == 3


def test_time_outs_cannot_spend_more_than_the_budget(tmp_path: Path) -> None:
    with Server(first(9, silent, skip=0)) as server:
        source = connect(server.url, tmp_path, timeout=0.1, retries=9, budget=Budget(queries=5))
        with pytest.raises(BudgetSpent, match=r"budget\.queries=5; 4 calls paid for.: 2 items cannot be sent once more"):
            source(images(2))
        assert server.answered == source.ledger.bill()["queries"] == 4


def test_budget_that_ends_in_mid_run_is_never_exceeded(tmp_path: Path) -> None:
    with Server() as server:
        source = connect(server.url, tmp_path, budget=Budget(queries=5))
        source(images(4))
        with pytest.raises(BudgetSpent):
            source(images(8))
        assert source.ledger.bill()["queries"] == server.answered == 4
        source.ledger.close()
        more = connect(server.url, tmp_path, budget=Budget(queries=8))
        more(images(8))
        assert more.ledger.bill()["queries"] == server.answered == 8


def test_most_of_a_request_without_an_answer_is_asked_again_next_time(tmp_path: Path) -> None:
    """The service was ill, not the images: what it said is on the bill, and not kept for ever."""
    ill = first(2, lambda h, x: h.sell(x, answer(np.full((len(x), 5), np.nan))), skip=0)
    with Server(ill) as server:
        source = connect(server.url, tmp_path)
        with pytest.raises(SourceError, match="no answer for 4 of 4 images: the answer is NaN"):
            source(images(4))
        source.ledger.close()
        again = connect(server.url, tmp_path)
        again(images(4))
        bill = again.ledger.bill()
        assert bill["queries"] == server.answered == 8 and bill["failed"] == 0


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate authority of our own and a server's certificate, for this test run."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=127.0.0.1")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.pem", "-days", "2", "-extfile", "names")  # fmt: skip
    return {name: str(folder / name) for name in ("ca.pem", "server.pem", "server.key")}


def test_own_certificate_authority(authority: dict[str, str], tmp_path: Path) -> None:
    with Server(certificate=(authority["server.pem"], authority["server.key"])) as server:
        with pytest.raises(SourceError, match=r"certificate that is not trusted .*source\.verify=FILE"):
            connect(server.url, tmp_path)
        source = connect(server.url, tmp_path, verify=authority["ca.pem"])
        source(images())
        assert source.ledger.bill()["queries"] == server.answered == IMAGES
    (tmp_path / "nothing.pem").write_text("no certificate")
    for file, why in ((tmp_path / "nothing.pem", "no certificates"), (tmp_path / "none", "No such file")):
        with pytest.raises(ReprogramError, match=rf"source\.verify=.*{why}"):
            connect(server.url, tmp_path, verify=str(file))


# Kills: kill -9 in a process of its own, then again until it is through ----------------------------------------------

MOMENTS = {  # moment: how many images it leaves on the bill that nobody can know of
    "before the intent": 0,
    "after the intent": BATCH,
    "after the answer": BATCH,
    "in the commit": BATCH,
    "between requests": 0,
}


@pytest.fixture(scope="module")
def client() -> Iterator[Callable[..., tuple[int, list[int]]]]:
    """``client(kind, where, folder, moment)`` -> exit status and printed numbers of a process of its own.

    One process imports everything and forks for each, because the import takes longer than all the rest.
    """
    root = Path(__file__).parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, str(Path(__file__).with_name("killed_client.py"))]
    pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipe) as process:

        def run(*arguments: str) -> tuple[int, list[int]]:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(arguments) + "\n")
            process.stdin.flush()
            status, *numbers = map(int, process.stdout.readline().split())
            return status, numbers

        yield run
        process.kill()


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_minus_nine_of_the_client(moment: str, client: Any, tmp_path: Path) -> None:
    with Server() as server:
        assert client("remote", server.url, str(tmp_path), moment)[0] == -signal.SIGKILL
        status, (queries, unanswered, calls) = client("remote", server.url, str(tmp_path), "never")
        assert status == 0
        assert unanswered == MOMENTS[moment] and calls == 12
        assert queries - unanswered <= server.answered <= queries == 12 + unanswered


@pytest.mark.parametrize("moment", ["in the call", "after the answer", "between requests"])
def test_kill_minus_nine_of_a_function_that_pays(moment: str, client: Any, tmp_path: Path) -> None:
    log = tmp_path / "paid"
    assert client("callable", str(log), str(tmp_path), moment)[0] == -signal.SIGKILL
    status, (queries, unanswered, calls) = client("callable", str(log), str(tmp_path), "never")
    assert status == 0
    paid = log.read_text().count("x")
    assert queries - unanswered <= paid <= queries and calls == 12
    assert paid <= 12 + BATCH, "what was kept is never asked again"


@contextlib.contextmanager
def server_process(port: int, log: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, str(Path(__file__).with_name("faulty_server.py")), str(port), str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def test_kill_minus_nine_of_the_server_and_a_new_one_takes_over(tmp_path: Path) -> None:
    log = tmp_path / "count"
    with server_process(0, log) as (process, port):
        source = connect(f"http://127.0.0.1:{port}", tmp_path, retries=0, workers=2)
        source(images(4))
        process.kill()
        process.wait()
        with pytest.raises(SourceError, match="cannot be reached"):
            source(images(12))
        billed = source.ledger.bill()["queries"]
        assert billed == log.read_text().count("x") == 4, "what never arrived is not on the bill"
    with server_process(port, log):
        source(images(12))
    bill = source.ledger.bill()
    assert bill["queries"] == log.read_text().count("x") == 12 and bill["sent_but_unanswered"] == 0


def test_function_that_throws_on_one_image_is_billed_for_every_time_it_was_called(tmp_path: Path) -> None:
    seen = 0

    def picky(x: np.ndarray) -> np.ndarray:
        nonlocal seen
        seen += len(x)
        if (x > 2).any():
            raise ValueError("too bright")
        return np.full((len(x), 2), 0.5)

    x = images(8)
    x[2] = 3
    source = CallableSource(picky, ["a", "b"], batch=4, journal=tmp_path / "a")
    source(x)
    bill = source.ledger.bill()
    assert bill["queries"] == seen == 12 and bill["failed"] == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "a" / "answers.db")) as database:
        assert database.execute("SELECT error FROM calls WHERE error != ''").fetchall() == [("ValueError: too bright",)]


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        (lambda x: [["a"] * 2] * len(x), "what are not numbers"),
        (lambda x: [[0.5, 0.5], [1.0]], "what are not numbers"),
        (lambda x: [[10**400, 1]] * len(x), "what are not numbers"),
        (lambda x: 7, "answers a int"),
        (lambda x: np.full((len(x), 3), 1 / 3), "3 values an image"),
    ],
)
def test_answer_of_a_function_that_cannot_be_used_is_paid_once(says: Any, sentence: str) -> None:
    calls = 0

    def function(x: np.ndarray) -> Any:
        nonlocal calls
        calls += len(x)
        return says(x)

    source = CallableSource(function, ["a", "b"], batch=2)
    with pytest.raises(SourceError, match=sentence):
        source(images(2))
    assert source.ledger.bill()["queries"] == calls == 2
