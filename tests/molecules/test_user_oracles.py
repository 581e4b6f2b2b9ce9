"""Oracles that a user brings: descriptors, functions, programs, endpoints."""

import json
import math
import os
import pickle
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import numpy as np
import pytest

from molecules import workers
from molecules.evaluator import Evaluator
from molecules.objective import Objective
from molecules.oracles.command import Command
from molecules.oracles.descriptor import SHORT, Descriptor
from molecules.oracles.function import Function
from molecules.oracles.http import Http
from molecules.oracles.penalized_logp import PenalizedLogP, RawPenalizedLogP
from molecules.oracles.similarity import Similarity
from molecules.oracles.substructure import Substructure
from molecules.workers import Workers
from reprogram.errors import BudgetSpent, ConfigError, DataError, SourceError

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def test_every_short_descriptor_answers():
    for name in SHORT:
        assert math.isfinite(Descriptor(name).score([ASPIRIN])[0]), name


def test_penalized_logp_has_two_scales_named_apart():
    raw, normalised = RawPenalizedLogP(), PenalizedLogP()
    assert raw.name != normalised.name
    logp, sa = Descriptor("logp").score([ASPIRIN])[0], Descriptor("sa").score([ASPIRIN])[0]
    assert raw.score([ASPIRIN])[0] == pytest.approx(logp - sa)
    expected = (logp - 2.4571) / 1.43432 + (-sa + 3.05258) / 0.83352 + 0.04857 / 0.28602
    assert normalised.score([ASPIRIN])[0] == pytest.approx(expected, abs=1e-3)
    ring = "C1CCCCCCCCC1"  # ten atoms: four too many
    flat = normalised.score([ring])[0] - (Descriptor("logp").score([ring])[0] - 2.4571) / 1.43432
    flat -= (-Descriptor("sa").score([ring])[0] + 3.05258) / 0.83352
    assert flat == pytest.approx((-4 + 0.04857) / 0.28602, abs=1e-3)


def test_similarity_to_itself_is_one_on_every_fingerprint():
    for kind in ("ecfp4", "ecfp6", "fcfp4", "fcfp6", "ap"):
        for counts in (True, False):
            oracle = Similarity(["CCO", ASPIRIN], kind, counts)
            assert oracle.score([ASPIRIN])[0] == 1.0
    with pytest.raises(DataError, match="'nope'"):
        Similarity("nope")


def test_substructure_counts_up_to_its_limit():
    assert Substructure("C(=O)O", most=5).score([ASPIRIN, "CC"]).tolist() == [2.0, 0.0]
    with pytest.raises(ConfigError, match=r"C\(\("):
        Substructure("C((")


def test_function_that_throws_costs_its_molecule_alone():
    def fragile(smiles):
        if "N" in smiles:
            raise ValueError("no nitrogen please")
        if "O" in smiles:
            sys.exit("no licence")  # as the main() of a program does
        return len(smiles)

    answers = Function(fragile).answers(["CC", "CN", "CCC", "CO"])
    assert [a.value for a in answers][::2] == [2, 3]
    assert math.isnan(answers[1].value) and "no nitrogen please" in answers[1].reason
    assert math.isnan(answers[3].value) and answers[3].reason == "SystemExit: no licence"
    assert Function("math.sqrt").name == "sqrt"
    with pytest.raises(ConfigError, match="cannot be imported"):
        Function("no_such_module.f")


def program(tmp_path, body):
    path = tmp_path / "oracle.py"
    path.write_text("import sys, json\nsmiles = sys.stdin.read().split()\n" + body)
    return [sys.executable, str(path)]


def test_command_answers_plainly_and_in_the_form_of_reinvent(tmp_path):
    plain = program(tmp_path, "print(json.dumps({'score': [len(s) for s in smiles]}))")
    assert Command(plain, batch=2).score(["C", "CC", "CCC"]).tolist() == [1, 2, 3]
    nested = program(tmp_path, "print(json.dumps({'payload': {'dock': [len(s) for s in smiles]}}))")
    assert Command(nested, key="dock").score(["C", "CC"]).tolist() == [1, 2]


@pytest.mark.parametrize("backend", ["serial", "processes"])
def test_a_command_is_started_once_a_batch_in_every_backend(tmp_path, backend, monkeypatch):
    monkeypatch.setattr(workers, "WORTHWHILE", 0.0)
    log = tmp_path / "starts.txt"
    note = f"open({str(log)!r}, 'a').write(str(len(smiles)) + chr(10))\n"
    words = program(tmp_path, note + "print(json.dumps({'score': [1.0] * len(smiles)}))")
    objective = Objective.of(Command(words, batch=10))
    with Evaluator(objective, 40, workers=Workers(backend, jobs=2)) as evaluator, pytest.raises(BudgetSpent):
        evaluator.score(["C" * n for n in range(1, 42)])
    assert log.read_text().split() == ["10"] * 4


def test_command_that_crashes_on_one_molecule_costs_it_alone(tmp_path):
    words = program(tmp_path, "assert 'N' not in smiles, 'bad one'\nprint(json.dumps({'score': [1.0] * len(smiles)}))")
    answers = Command(words).answers(["C", "N", "O", "CC"])
    assert [math.isnan(a.value) for a in answers] == [False, True, False, False]
    assert "bad one" in answers[1].reason


def test_a_program_or_function_whose_service_is_down_ends_the_run_uncharged_and_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setattr("molecules.oracles.function.PAUSE", 0.001)
    down = tmp_path / "down"
    answer = "print(json.dumps({'score': [1.0] * len(smiles)}))"
    words = program(tmp_path, f"import os\nif os.path.exists({str(down)!r}): sys.exit('no licence')\n{answer}")

    def function(smiles):
        if down.exists():
            raise ConnectionError("refused")
        return 1.0

    chains = ["C" * n for n in range(1, 21)]
    for oracle, sentence in ((Command(words), "no answer to 13 requests in a row.*no licence"), (Function(function), "refused")):
        journal = tmp_path / f"{oracle.name}.jsonl"
        with Evaluator(Objective.of(oracle), 30, journal=journal) as evaluator:
            evaluator.score(chains[:5])
            down.touch()
            with pytest.raises(SourceError, match=sentence):
                evaluator.score(chains)
        assert len(journal.read_text().splitlines()) == 5
        down.unlink()
        with Evaluator(Objective.of(oracle), 30, journal=journal) as evaluator:
            assert [s.score for s in evaluator.score(chains)] == [1.0] * 20 and evaluator.left == 10
    with pytest.raises(SourceError, match=r"is not available \(gone\)"):
        Command(program(tmp_path, "print('gone', file=sys.stderr)\nsys.exit(75)")).answers(["C"])


def test_command_that_hangs_or_chatters_is_named(tmp_path):
    slow = Command(program(tmp_path, "import time; time.sleep(30)"), timeout=0.5).answers(["C"])[0]
    assert "longer than 0.5 s" in slow.reason
    chatty = Command(program(tmp_path, "print('hello')")).answers(["C"])[0]
    assert "did not answer in JSON" in chatty.reason
    with pytest.raises(ConfigError, match="no_such_program"):
        Command("no_such_program --fast")


class Handler(BaseHTTPRequestHandler):
    failures = 0
    refusals: ClassVar[list[int]] = []  # statuses of the next answers
    breaks_on = "no such text"
    body = None
    seen = None

    def do_POST(self):
        Handler.seen = {name.lower(): value for name, value in self.headers.items()}
        smiles = json.loads(self.rfile.read(int(self.headers["content-length"])))["smiles"]
        broken = [500] * any(Handler.breaks_on in s for s in smiles)
        status = Handler.refusals.pop() if Handler.refusals else 503 if Handler.failures else broken[0] if broken else 200
        if status != 200:
            Handler.failures = max(Handler.failures - 1, 0)
            self.send_response(status)
            self.end_headers()
            return
        body = json.dumps({"score": [None if "N" in s else len(s) for s in smiles]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body if Handler.body is None else Handler.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/score"
    server.shutdown()


def test_http_retries_and_names_what_it_cannot_score(endpoint, monkeypatch):
    monkeypatch.setattr("molecules.oracles.http.PAUSE", 0.01)
    Handler.failures = 2
    answers = Http(endpoint).answers(["C", "N", "CC"])
    assert np.array([a.value for a in answers])[[0, 2]].tolist() == [1, 2]
    assert answers[1].reason == "answered None"


def test_http_uses_passwords_and_tokens_and_names_none_of_them(endpoint, monkeypatch):
    monkeypatch.setenv("ORACLE_TOKEN", "t0ken-of-the-oracle")
    monkeypatch.setattr("molecules.oracles.http.PAUSE", 0.01)
    address = endpoint.replace("http://", "http://chemist:pa55word-1@")
    oracle = Http(address, token_env="ORACLE_TOKEN", header="X-Token", scheme="")
    assert oracle.answers(["C"])[0].value == 1
    assert Handler.seen["x-token"] == "t0ken-of-the-oracle" and Handler.seen["authorization"].startswith("Basic ")
    Handler.failures = 9
    with pytest.raises(SourceError) as outage:
        oracle.answers(["C"])
    Handler.failures, reason = 0, str(outage.value)
    assert "503" in reason and "pa55word" not in reason + repr(oracle) + oracle.name
    assert pickle.loads(pickle.dumps(oracle)).answers(["CC"])[0].value == 2, "as a worker process gets it"


def test_http_answers_that_are_too_slow_or_no_json_cost_their_molecules_alone(endpoint, monkeypatch):
    monkeypatch.setattr("molecules.oracles.http.PAUSE", 0.01)
    Handler.body = b"<html>"
    assert "did not answer in JSON" in Http(endpoint).answers(["C"])[0].reason
    Handler.body = None


def test_http_that_cannot_be_reached_or_refuses_ends_the_run_uncharged_and_is_asked_again(endpoint, monkeypatch, tmp_path):
    monkeypatch.setattr("molecules.oracles.http.PAUSE", 0.01)
    with pytest.raises(SourceError, match="ConnectError"):
        Http("http://127.0.0.1:9/none", retries=1, timeout=1).answers(["C"])
    with pytest.raises(ConfigError, match="must start with http"):
        Http("ftp://x")
    journal = tmp_path / "calls.jsonl"
    for status, sentence in ((401, "token"), (503, "503"), (404, "404")):
        with Evaluator(Objective.of(Http(endpoint, batch=2, retries=1)), 10, journal=journal) as evaluator:
            if status == 401:
                evaluator.score(["C", "CC"])
            Handler.refusals = [status] * 4
            with pytest.raises(SourceError, match=sentence):
                evaluator.score(["C", "CC", "CCC", "CCCC"])
        Handler.refusals = []
    with Evaluator(Objective.of(Http(endpoint, batch=2)), 10, journal=journal) as evaluator:
        assert [s.score for s in evaluator.score(["C", "CC", "CCC", "CCCC"])] == [1, 2, 3, 4] and evaluator.left == 6
    assert len(journal.read_text().splitlines()) == 4


def test_http_that_breaks_on_a_molecule_costs_it_alone_and_one_that_breaks_on_all_ends_the_run(endpoint, monkeypatch):
    monkeypatch.setattr("molecules.oracles.http.PAUSE", 0.001)
    monkeypatch.setattr(Handler, "breaks_on", "P")
    answers = Http(endpoint, retries=0).answers(["C", "CC", "P", "CCC"])
    assert [a.value for a in answers if not a.reason] == [1, 2, 3] and "500" in answers[2].reason
    monkeypatch.setattr(Handler, "breaks_on", "C")
    with pytest.raises(SourceError, match="no answer to 7 requests in a row"):
        Http(endpoint, retries=0).answers(["C", "CC", "CP", "CCC"])


def test_a_function_that_crashes_its_process_costs_its_molecule_alone(tmp_path, monkeypatch):
    (tmp_path / "crashing.py").write_text("import os\n\n\ndef score(s):\n    return os._exit(3) if 'N' in s else len(s)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    objective = Objective.of(Function("crashing.score"))
    with Evaluator(objective, 10, workers=Workers("processes", jobs=2)) as evaluator:
        scored = evaluator.score(["C", "CN", "CC", "CCC"])
    assert [s.score for s in scored if not s.reason] == [1, 2, 3] and "process ended" in scored[1].reason
