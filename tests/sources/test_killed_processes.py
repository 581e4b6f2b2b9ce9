"""Client and server as real processes: SIGKILL either in mid-run, go on, and pay for no answer twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BATCH, WORKERS = 4, 2
CLIENT = f"""
import json, sys
from pathlib import Path
import numpy as np
from reprogram.hooks import Run
from reprogram.inputs.coarse import Coarse
from reprogram.interfaces import TargetInfo
from reprogram.ledger import Budget
from reprogram.model import ReprogrammedModel
from reprogram.outputs.top_k import TopK
from reprogram.result import Result
from reprogram.sources.remote import RemoteSource
from reprogram.targets.base import ArrayExamples
from reprogram.training.loop import Training
from reprogram.training.rgf import RandomGradientFree

url, folder, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
labels = np.arange(40) % 2
images = np.random.default_rng(0).random((40, 3, 8, 8)).astype(np.float32) * 0.5 + labels[:, None, None, None] * 0.3
source = RemoteSource(url, "tiny", ["ant", "bee", "cat", "dog", "elk"], batch={BATCH}, workers={WORKERS}, retries=60,
                      pause=0.05, timeout=5, journal=folder / "answers",
                      budget=Budget(queries=500))
info = TargetInfo("two", "image", "classification", ("dark", "light"), (3, 8, 8))
model = ReprogrammedModel(source, Coarse(8, 2), TopK(k=2), info)
run = Run(folder, 0, Result("reprogram", 0), resume=mode == "resume")
training = Training(50, 14, RandomGradientFree(directions=2), checkpoint_seconds=0.0)
history = training.fit(model, ArrayExamples(images.astype(np.float32), labels), run)
bill = source.ledger.bill()
print(json.dumps({{
    "program": {{name: tensor.tolist() for name, tensor in model.program().items()}},
    "judged": [point["held_out_error"] for point in history.search["points"]],
    "ended": history.ended, "queries": bill["queries"], "lost": bill["sent_but_unanswered"],
}}))
"""


class Server:
    """The process of ``v2_server.py``; a killed one is started again on the same port with the same log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        log.touch()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("v2_server.py")), str(self.port), str(self.log), "0.02"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def answered(self) -> list[str]:
        return self.log.read_text().split()


def calls(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "answers" / "answers.db") as database:
        return {key for (key,) in database.execute("SELECT key FROM calls")}


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "answered")
    yield running
    running.kill()


def client(server: Server, folder: Path, mode: str = "new") -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", CLIENT, server.url, str(folder), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


def wait_for(server: Server, answers: int, process: subprocess.Popen[str]) -> None:
    while len(server.answered()) < answers:
        assert process.poll() is None, "the client ended before it could be disturbed"
        time.sleep(0.005)


def test_killed_client_and_killed_server_end_with_the_same_program_and_pay_once(server: Server, tmp_path: Path) -> None:
    undisturbed = result(client(server, tmp_path / "calm"))
    asked = set(server.answered())
    assert len(server.answered()) == len(asked) == undisturbed["queries"] <= 500
    assert undisturbed["ended"].startswith("The budget is spent (budget.queries=500;")

    server.log.write_text("")
    process = client(server, tmp_path / "killed")
    wait_for(server, 120, process)
    server.kill()
    server.start()
    wait_for(server, 220, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.2)  # what was under way is answered, to nobody
    kept = calls(tmp_path / "killed")
    before = len(server.answered())

    found = result(client(server, tmp_path / "killed", "resume"))
    answered = server.answered()
    assert not kept & set(answered[before:]), "what was kept is never asked again"
    under_way = BATCH * WORKERS
    assert len(answered) - len(set(answered)) <= under_way + under_way + BATCH, (
        "at the two kills, and one about to be kept"
    )
    assert set(answered) <= asked, "the same questions as the undisturbed run's"
    assert found["queries"] == len(calls(tmp_path / "killed")) + found["lost"] <= 500
    assert found["lost"] <= 2 * under_way, "at each of the two kills"
    assert found["queries"] >= len(answered), "the bill is never below the service's own count"
    if found["lost"] == 0:  # else the budget ends a step earlier
        assert (found["program"], found["judged"]) == (undisturbed["program"], undisturbed["judged"])
    shared = min(len(found["judged"]), len(undisturbed["judged"])) - 1
    assert shared >= 2 and found["judged"][:shared] == undisturbed["judged"][:shared]
