"""A real server: the protocol, answers that stay in their places, tokens, certificates, reloading, a killed engine."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mlserver")
sys.path.insert(0, str(Path(__file__).parent))
from served import TOKEN, coded, colour_files, pictures, png, sentences, tones, wav

IMAGES, COLOURS = pictures(12, 1)
TEXTS, _ = sentences(12, 1)
SENT = {"Authorization": f"Bearer {TOKEN}"}


def probabilities(model: Any, images: np.ndarray) -> np.ndarray:
    return model.predict_proba(torch.from_numpy(images).float() / 255)


def test_the_public_client_of_the_protocol(server: Any, models: Any) -> None:
    client = pytest.importorskip("tritonclient.http")
    asked = client.InferenceServerClient(server.url.removeprefix("http://"))
    assert asked.is_server_live(headers=SENT) and asked.is_server_ready(headers=SENT)
    assert asked.is_model_ready("colours", headers=SENT)
    described = asked.get_model_metadata("colours", headers=SENT)
    assert described["inputs"][0] | {"parameters": None} == {
        "name": "image", "datatype": "BYTES", "shape": [-1, 1], "parameters": None
    }  # fmt: skip
    assert described["parameters"]["classes"] == ["red", "green", "blue"]
    assert described["parameters"]["detector"]["examples"] == 20
    wanted = probabilities(models["colours"], IMAGES)
    pixels = (IMAGES / 255).astype(np.float32)
    files = np.array([coded(image).encode() for image in IMAGES], dtype=object)[:, None]
    for values, kind in ((pixels, "FP32"), (IMAGES, "UINT8"), (files, "BYTES")):
        tensor = client.InferInput("image", list(values.shape), kind)
        tensor.set_data_from_numpy(values, binary_data=False)
        found = asked.infer("colours", [tensor], headers=SENT, request_id="mine")
        assert found.get_response()["id"] == "mine"
        assert np.allclose(found.as_numpy("probabilities"), wanted, atol=1e-5), kind
        assert found.as_numpy("label")[:, 0].tolist() == [("red", "green", "blue")[row.argmax()] for row in wanted]


def test_grpc_answers_the_same_and_wants_the_token(server: Any, models: Any) -> None:
    import grpc
    from mlserver.grpc import dataplane_pb2 as pb
    from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

    contents = pb.InferTensorContents(bytes_contents=[png(image) for image in IMAGES] + [b"nothing"])
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[13, 1], contents=contents)
    request = pb.ModelInferRequest(model_name="colours", inputs=[tensor])
    with grpc.insecure_channel(f"127.0.0.1:{server.port + 1}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="token is wrong"):
            stub.ModelInfer(request)
        found = stub.ModelInfer(request, metadata=(("authorization", f"Bearer {TOKEN}"),))
    outputs = {output.name: output.contents for output in found.outputs}
    values = np.array(outputs["probabilities"].fp32_contents).reshape(13, 3)
    assert np.allclose(values[:12], probabilities(models["colours"], IMAGES), atol=1e-5) and np.isnan(values[12]).all()
    assert outputs["problem"].bytes_contents[12] == b"it is neither a PNG nor a JPEG file"


def test_texts_and_values_have_sets_and_intervals(server: Any, models: Any) -> None:
    status, found = server.infer("films", [*TEXTS, "  ", 7], confidence=0.8)
    assert status == 200
    table = models["films"].predict_proba(TEXTS)
    assert np.allclose(np.reshape(found["probabilities"][:24], (12, 2)), table, atol=1e-5)
    assert found["problem"][12:] == ["it is empty", "it is no string, but of type int"] and found["label"][12:] == ["", ""]
    assert all(label in held.split("|") for label, held in zip(found["label"][:12], found["set"][:12], strict=True))
    status, found = server.infer("marks", TEXTS)
    assert np.allclose(found["value"], models["marks"].predict(TEXTS), atol=1e-4) and "probabilities" not in found
    assert all(low < value < high for low, value, high in zip(found["low"], found["value"], found["high"], strict=True))


BAD: list[tuple[Any, str]] = [
    (b"{{{", "json_invalid"),
    (b"[" * 100_000, "json_invalid"),
    ({"inputs": 3}, "list_type"),
    ({"inputs": []}, "has one input"),
    ({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [""]}]}, "'x'"),
    ({"inputs": [{"name": "image", "shape": [1], "datatype": "FP99", "data": [1]}]}, "enum"),
    ({"inputs": [{"name": "image", "shape": [9, 1], "datatype": "BYTES", "data": ["", ""]}]}, "2 items of data"),
    ({"inputs": [{"name": "image", "shape": [10**9, 1], "datatype": "BYTES", "data": [""]}]}, "1,024 inputs"),
    ({"inputs": [{"name": "image", "shape": [1, 3, 12, 12], "datatype": "FP32", "data": [1, [2]]}]}, "not a list of numbers"),
    ({"inputs": [{"name": "image", "shape": [-1, 3], "datatype": "FP32", "data": [1]}]}, "whole numbers"),
    ({"inputs": [{"name": "image", "shape": [1, 3], "datatype": "INT8", "data": [1, 1, 1]}]}, "not INT8"),
]


@pytest.mark.parametrize(("body", "told"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_a_request_that_is_none_gets_a_sentence(server: Any, body: Any, told: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, found = server.ask("/v2/models/colours/infer", raw=raw)
    assert status in (400, 413) and told in found["error"]


def test_paths_tokens_and_bodies_beyond_measure_are_refused(server: Any) -> None:
    assert server.ask("/v2/models/colours", Authorization="Bearer wrong")[0] == 401
    assert server.ask("/v2/repository/models/colours/unload", {}, Authorization="")[0] == 401
    assert server.ask("/v2/models/none/infer", {})[0] == server.ask("/etc/passwd")[0] == 404
    assert server.ask("/v2/models/colours/infer", raw=b" " * (5 << 20))[0] == 413
    bomb = gzip.compress(b"\0" * (64 << 20))
    assert len(bomb) < 1 << 17 and server.ask("/v2/models/colours/infer", raw=bomb, **{"Content-Encoding": "gzip"})[0] == 413


def test_wishes_are_checked(server: Any) -> None:
    files = [coded(IMAGES[0])]
    for asked, told in (
        ({"certfy": "l2"}, "did you mean 'certify'"),
        ({"confidence": 2}, "confidence=2"),
        ({"certify": "l2", "samples": 10**9}, "samples="),
    ):
        status, found = server.infer("colours", files, **asked)
        assert status == 400 and told in found["error"]
    assert "is for classes of images" in server.infer("films", TEXTS, certify="l2")[1]["error"]
    assert "labelled examples" in server.infer("shades", files, detect=True)[1]["error"]
    status, found = server.infer("colours", files, confidence="0.8", binary_data_output=True)  # other clients' own
    assert status == 200


def test_mixed_requests_at_once_never_get_each_others_answers(server: Any, models: Any) -> None:
    images, _ = pictures(90, 2)
    wanted = {name: probabilities(models[name], images) for name in ("colours", "shades")}
    films = models["films"].predict_proba(sentences(90, 2)[0])

    def one(place: int) -> None:
        some = slice(place % 80, place % 80 + 1 + place % 5)
        if place % 7 == 0:
            assert server.ask("/v2/models/colours/infer", raw=b'{"inputs": [{"name": "image"}]}')[0] == 400
            return
        if place % 3 == 0:
            texts = sentences(90, 2)[0][some]
            status, found = server.infer("films", [texts[0], "", *texts[1:]])
            values = np.reshape([np.nan if v is None else v for v in found["probabilities"]], (-1, 2))
            assert status == 200 and np.allclose(np.delete(values, 1, 0), films[some], atol=1e-5)
            return
        name = ("colours", "shades")[place % 2]
        files = [coded(image) for image in images[some]]
        status, found = server.infer(name, [*files, "bad"], certify="none" if place % 4 else "l2", samples=20)
        values = np.reshape([np.nan if v is None else v for v in found["probabilities"]], (len(files) + 1, -1))
        assert status == 200 and np.allclose(values[:-1], wanted[name][some], atol=1e-5) and np.isnan(values[-1]).all()
        assert ("radius" in found) == (place % 4 == 0)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(120)))


def test_certificates_votes_and_signs_of_attacks(server: Any, models: Any) -> None:
    from reprogram.robustness.certification.randomized_smoothing import Smoothing

    files = [coded(image) for image in IMAGES[:3]]
    status, found = server.infer("colours", files, certify="l2", samples=200, sigma=0.1, seed=5, vote=9, detect=True)
    assert status == 200
    smoothing = Smoothing(sigma=0.1, samples=200, seed=5)
    certified = [smoothing.certify(models["colours"], torch.from_numpy(IMAGES[i]).float() / 255, i) for i in range(3)]
    assert np.allclose(found["radius"], [one.cohen for one in certified])
    classes = ("red", "green", "blue")
    assert found["certified"] == [classes[one.label] if one.label >= 0 else "" for one in certified]
    assert max(found["radius"]) > 0
    assert found["voted"] == found["label"] and all(0.5 < share <= 1 for share in found["votes"])
    assert set(found["suspicious"]) <= {"yes", "no"} and all(score >= 0 for score in found["suspicion"])


def test_what_is_counted_logged_and_audited_holds_no_input(server: Any) -> None:
    server.infer("films", ["a very secret film", "good"])
    counted = urllib.request.urlopen(f"http://127.0.0.1:{server.port + 2}/metrics").read().decode()
    for name in ("reprogram_requests_total", "reprogram_answers_total", "reprogram_request_seconds", "reprogram_batch_inputs"):
        assert re.search(rf'^{name}\w*{{.*model="films"', counted, re.M), name
    assert 'reprogram_inputs_total{model="films",outcome="problem"}' in counted
    assert "none" not in re.findall(r'model="(\w+)"', counted)
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert any(line.get("model") == "films" and line["inputs"] == 2 for line in lines)
    audit = (server.folder.parent / "audit.jsonl").read_text()
    assert {json.loads(line)["model"] for line in audit.splitlines()} >= {"films"}
    assert "secret" not in server.log.read_text() + audit and TOKEN not in server.log.read_text()


def test_the_circle_closes_with_its_bill(server: Any, monkeypatch: Any) -> None:
    """A served program is the black-box source of another one."""
    from reprogram.hooks import Run
    from reprogram.inputs.none import NoPrompt
    from reprogram.interfaces import TargetInfo
    from reprogram.model import ReprogrammedModel
    from reprogram.outputs.ridge_taps import RidgeTaps
    from reprogram.result import Result
    from reprogram.sources.remote import RemoteSource
    from reprogram.targets.base import ArrayExamples
    from reprogram.training.loop import Training

    monkeypatch.setenv("SERVING_TOKEN", TOKEN)
    labels = ["red", "green", "blue"]
    source = RemoteSource(server.url, "colours", labels, size=12, token_env="SERVING_TOKEN", output="probabilities")
    images, colours = pictures(30, 3)
    info = TargetInfo("warm", "image", "classification", ("warm", "cold"), (3, 12, 12))
    model = ReprogrammedModel(source, NoPrompt(size=12), RidgeTaps(), info)
    examples = ArrayExamples(images, (colours > 0).astype(int))
    Training(epochs=0).fit(model, examples, Run(server.folder, 0, Result("reprogram", 0)))
    assert source.bill()["queries"] == 30
    with source.counted_as("evaluation"):
        found = model.predict(torch.from_numpy(IMAGES).float() / 255)
    assert (found == (COLOURS > 0)).mean() > 0.9 and source.bill()["by_kind"] == {"training": 30, "evaluation": 12}


def test_a_served_program_is_inspected_and_attacked_by_queries_alone(
    server: Any, typed: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """The labels stand in another order in the folder than in the program: they are matched by name."""
    monkeypatch.setenv("SERVING_TOKEN", TOKEN)
    colour_files(tmp_path / "data", 12)
    served = [f"source.url={server.url}", "source.model=colours", "source.labels=served", "source.size=12"]
    asked = ["source=remote", *served, "source.token_env=SERVING_TOKEN", "target=image_folder", "target.root=data"]
    code, told = typed("task=inspect", *asked, folder="inspected")
    assert code == 0, told
    found = json.loads(Path("inspected/result.json").read_text())
    assert found["robustness"]["rows"][0]["check"] == "trojan_query_scan"
    assert found["cost"]["queries"] == 17 * 12
    attack = ["robustness=quick", "robustness.examples=3", "robustness.few=3"]
    code, told = typed(*asked, "input=none", "output=identity", "training.epochs=0", *attack, folder="attacked")
    assert code == 0, told
    found = json.loads(Path("attacked/result.json").read_text())
    assert found["metrics"]["accuracy"]["value"] == 1.0
    rows = {row["check"]: row for row in found["robustness"]["rows"]}
    assert rows["clean"]["value"] == 1.0 and "square" in rows and "pgd" not in rows
    assert found["cost"]["by_kind"]["evaluation"] > 3 and TOKEN not in json.dumps(found)


def test_reloading_drops_no_request(server: Any, programs: Any, models: Any) -> None:
    stop, failures = threading.Event(), []
    wanted = probabilities(models["shades"], IMAGES)

    def keep_asking() -> None:
        while not stop.is_set():
            status, found = server.infer("shades", [coded(image) for image in IMAGES])
            if status != 200 or not np.allclose(np.reshape(found["probabilities"], (12, 2)), wanted, atol=1e-5):
                failures.append((status, found))

    thread = threading.Thread(target=keep_asking)
    thread.start()
    for _ in range(3):
        assert server.ask("/v2/repository/models/shades/load", {})[0] == 200
    stop.set()
    thread.join()
    assert not failures
    settings = server.folder / "shades" / "model-settings.json"
    before = settings.read_text()
    changed = json.loads(before)
    changed["parameters"]["uri"] = str(programs["colours"])
    settings.write_text(json.dumps(changed))
    assert server.ask("/v2/repository/models/shades/load", {})[0] == 200
    assert server.ask("/v2/models/shades")[1]["parameters"]["classes"] == ["red", "green", "blue"]
    settings.write_text(before)
    assert server.ask("/v2/repository/models/shades/load", {})[0] == 200


@pytest.mark.skipif(not (shutil.which("chromium") or shutil.which("chromium-browser")), reason="needs chromium")
def test_people_can_ask_with_the_keyboard_alone(server: Any, tmp_path: Path) -> None:
    import asyncio

    from browser import Browser

    (tmp_path / "red.png").write_bytes(png(IMAGES[0]))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "high.wav").write_bytes(wav(tones(2, 7)[0][1]))

    async def look() -> None:
        async with Browser(tmp_path / "profile") as page:
            await page.open(server.url, 390, 800, phone=True)
            assert "token" in await page.run("document.querySelector('#about').textContent")
            await page.run(f"$('token').value = '{TOKEN}'; $('token').dispatchEvent(new Event('change'))")
            await page.until("document.querySelector('#model').options.length === 5")
            await page.run("$('model').value = 'colours'; $('model').dispatchEvent(new Event('change'))")
            await page.choose("#files", str(tmp_path / "red.png"), str(tmp_path / "bad.png"))
            await page.until("document.querySelector('#status').textContent === '2 chosen.'")
            await page.run("document.querySelector('#certify').focus()")
            await page.press(" ")
            for _ in range(4):
                await page.press("Tab")
            assert await page.run("document.activeElement.id") == "send"
            await page.press("Enter")
            await page.until("document.querySelector('#status').textContent === '2 answered.'")
            text = await page.run("document.querySelector('#answers').innerText")
            assert "red" in text and "radius" in text and "it is neither a PNG nor a JPEG file" in text
            assert await page.run("document.documentElement.scrollWidth <= innerWidth")
            controls = await page.named()
            assert all(name for _, name in controls) and ("button", "Ask") in controls
            await page.run("$('model').value = 'films'; $('model').dispatchEvent(new Event('change'))")
            await page.run("$('text').value = '<b>good</b> film'; $('send').click()")
            await page.until("document.querySelector('#status').textContent === '1 answered.'")
            assert "<b>good</b>" in await page.run("document.querySelector('#answers').innerText")
            await page.run("$('model').value = 'tones'; $('model').dispatchEvent(new Event('change'))")
            await page.choose("#files", str(tmp_path / "high.wav"))
            await page.until("document.querySelector('#status').textContent === '1 chosen.'")
            await page.run("$('send').click()")
            await page.until("document.querySelector('#status').textContent === '1 answered.'")
            assert "high.wav\n" in await page.run("document.querySelector('#answers').innerText")
            assert await page.run("document.querySelector('#answers audio').getAttribute('aria-label')") == "high.wav"

    asyncio.run(look())


def test_a_killed_engine_comes_back_and_nothing_is_answered_wrongly(server: Any, models: Any) -> None:
    wanted = probabilities(models["colours"], IMAGES)
    stop, statuses, wrong = threading.Event(), [], []

    def keep_asking() -> None:
        while not stop.is_set():
            status, found = server.infer("colours", [coded(image) for image in IMAGES])
            statuses.append(status)
            if status == 200 and not np.allclose(np.reshape(found["probabilities"], (12, 3)), wanted, atol=1e-5):
                wrong.append(found)
            if status != 200:
                assert status == 503 and found["error"]
                time.sleep(0.05)

    threads = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    starter = server.starter()
    for _ in range(2):
        before = server.engine()
        os.kill(before, signal.SIGKILL)
        while server.ask("/v2/health/ready")[0] == 200:
            time.sleep(0.01)
        assert server.wait() < 20 and server.engine() != before
    assert server.starter() == starter  # both were forked: nothing was imported again
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and set(statuses) == {200, 503}
    assert server.infer("colours", [coded(IMAGES[0])])[0] == 200
