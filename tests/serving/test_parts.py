"""What a served program is made of, without a server: reading, wishes, batches, the guard, detectors, exported folders."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import logging
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reprogram.errors import ArtifactError
from reprogram.modalities import modality
from reprogram.serving.batching import Batcher
from reprogram.serving.detector import Detector
from reprogram.serving.export import Serving, names, write_container, write_repository
from reprogram.serving.guard import Guard, GuardSettings
from reprogram.serving.hardening import abstained, certify
from reprogram.serving.metrics import JsonLines, drift
from reprogram.serving.program import ServedProgram, from_settings
from reprogram.serving.reading import TensorReader
from reprogram.serving.wishes import Limits, RefusedRequest, Wishes

sys.path.insert(0, str(Path(__file__).parent))
from served import coded, colour_files, pictures, png, sentences, tones, wav


def tensor(data: Any, shape: Any = None, datatype: str = "BYTES", content_type: str | None = None) -> Any:
    return SimpleNamespace(data=data, shape=shape or [len(data), 1], datatype=datatype, content_type=content_type)


def bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels."""
    raw = io.BytesIO()
    Image.new("L", (1, 1)).save(raw, "PNG")
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    return raw.getvalue()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + raw.getvalue()[33:]


def test_pictures_in_any_form_are_the_same_pixels(models: Any) -> None:
    reader = TensorReader(models["colours"], Limits())
    images, _ = pictures(3, 0)
    wanted = images.astype(np.float32) / 255
    forms = [
        tensor([coded(i) for i in images]),
        tensor([png(i) for i in images]),
        tensor([[coded(i)] for i in images]),
        tensor(images.tolist(), [3, 3, 12, 12], "UINT8"),
        tensor(wanted.ravel().tolist(), [3, 3, 12, 12], "FP32"),
        tensor([base64.b64encode(png(i)) for i in images], content_type="base64"),
    ]
    for form in forms:
        found = reader.read(form)
        assert found.problems == [""] * 3 and np.allclose(np.stack(found.contents), wanted, atol=1e-7)
        assert all(content.dtype == np.float32 for content in found.contents)


def test_each_bad_picture_has_its_reason_and_no_neighbour_suffers(models: Any) -> None:
    reader = TensorReader(models["colours"], Limits(megabytes=1))
    image = pictures(1, 0)[0][0]
    large = io.BytesIO()
    Image.new("RGB", (40, 20)).save(large, "JPEG")
    gif = io.BytesIO()
    Image.new("L", (9, 9)).save(gif, "GIF")
    items = [coded(image), None, "%%", base64.b64encode(gif.getvalue()).decode(), bomb(8000), bomb(30_000)]
    items += [png(image)[:60], b"\xff\xd8\xff" + b"0" * 2**20, large.getvalue()]
    found = reader.read(tensor(items))
    told = ["", "it is no file, but null", "it is not base64", "it is neither a PNG nor a JPEG file"]
    assert found.problems[:4] == told and "8000 x 8000 pixels" in found.problems[4] and "more pixels" in found.problems[5]
    assert all(found.problems[6:8]) and found.problems[8] == "" and found.contents[8].shape == (3, 12, 12)
    assert "20 x 40 pixels, not 12 x 12" in reader.read(tensor([large.getvalue()]), strict=True).problems[0]
    values = np.full((4, 3, 12, 12), 0.5)
    values[1, 0, 0, 0], values[2, 0, 0, 0], values[3] = np.nan, 1.5, 7
    found = reader.read(tensor(values.tolist(), [4, 3, 12, 12], "FP32"))
    assert [bool(why) for why in found.problems] == [False, True, True, True]
    assert reader.read(tensor([300] * 432, [1, 3, 12, 12], "UINT8")).problems[0].startswith("its values run")
    assert reader.read(tensor([], [2, 3, 0, 12], "FP32")).problems == ["it has no pixels"] * 2


def test_signals_are_numbers_or_sounds(programs: Any, models: Any) -> None:
    pytest.importorskip("soundfile")
    served = ServedProgram(models["tones"], "", Wishes(), None)  # type: ignore[arg-type]
    served.reader = reader = TensorReader(served.model, Limits())
    served.warm_up()
    new, wanted = tones(6, 1)
    found = reader.read(tensor([*map(wav, new), base64.b64encode(wav(new[0])), b"RIFF", "%", wav(np.repeat(new[0], 2, 0))]))
    assert [bool(why) for why in found.problems] == [False] * 7 + [True, True, False]
    answers = served.answer([found.contents[i] for i in range(6)], 0.9)["prediction"]
    assert answers == [("low", "high")[label] for label in wanted]
    faster = reader.read(tensor([wav(np.repeat(new[1], 2, 1), 8000)])).contents[0]  # the rate becomes the program's
    assert faster.shape == new[1].shape
    values = np.stack([sound[:, :500] for sound in new])
    listed = values.astype(object).ravel().tolist()
    listed[3] = None  # a missing value
    found = reader.read(tensor(listed, [6, 1, 500], "FP32"))
    assert found.problems == [""] * 6 and np.isnan(found.contents[0][0, 3]) and np.allclose(found.contents[1], values[1])
    values[2, 0, 0] = np.inf
    assert [bool(why) for why in reader.read(tensor(values.ravel().tolist(), [6, 1, 500], "FP32")).problems].index(True) == 2
    with pytest.raises(RefusedRequest, match="have the shape"):
        reader.read(tensor([0.0] * 8, [2, 2, 2], "FP32"))
    with pytest.raises(RefusedRequest, match="no change keeps the meaning"):
        served.check(Wishes(vote=3))


def test_strings_are_bounded_and_read_as_the_program_reads_them(models: Any) -> None:
    reader = TensorReader(models["films"], Limits(characters=100))
    found = reader.read(tensor(["good film", "", "x" * 101, b"bad", b"\xff\xfe", "a\x00b"]))
    assert [bool(why) for why in found.problems] == [False, True, True, False, True, False] and found.contents[3] == "bad"
    assert "control" in reader.read(tensor(["a\x00b"]), strict=True).problems[0]
    with pytest.raises(RefusedRequest, match="is BYTES, not FP32"):
        reader.read(tensor([1.0], [1, 1], "FP32"))
    assert modality("molecule").longest == 1_000


def test_settings_and_requests_share_one_check() -> None:
    assert Wishes().changed({"certify": None, "vote": "5", "detect": "true", "priority": 3}).vote == 5
    wrongs = [{"sigma": 0}, {"vote": 101}, {"detect": 2}, {"confidence": "nan"}, {"seed": -1}, {"input_check": "strikt"}]
    for wrong in [*wrongs, {"samples": "9" * 400}]:
        with pytest.raises(RefusedRequest, match=next(iter(wrong))):
            Wishes().changed(wrong)


def test_requests_share_a_pass_and_get_their_own_answers() -> None:
    sizes: list[int] = []

    def answer(contents: Any, key: Any) -> Any:
        sizes.append(len(contents))
        if "fail" in contents:
            raise ValueError
        return {"twice": [2 * content for content in contents], "key": [key] * len(contents)}

    async def ask() -> None:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(answer, pool, size=8, most=30)
            wanted = [[i] * (1 + i % 3) for i in range(12)]
            keys = [i % 2 for i in range(12)]
            found = await asyncio.gather(*(batcher.ask(c, k) for c, k in zip(wanted, keys, strict=True)))
            for one, contents, key in zip(found, wanted, keys, strict=True):
                assert one == {"twice": [2 * c for c in contents], "key": [key] * len(contents)}
            assert max(sizes) <= 8 and len(sizes) < 12 and batcher.waiting == 0
            with pytest.raises(ValueError):
                await batcher.ask(["fail"], 0)
            many = [asyncio.create_task(batcher.ask([i] * 20, 0)) for i in range(3)]
            outcomes = await asyncio.gather(*many, return_exceptions=True)
            assert [getattr(one, "status", 200) for one in outcomes] == [200, 503, 503]
            await batcher.drained()

    asyncio.run(ask())


def test_an_input_that_breaks_the_model_fails_alone(programs: Any, monkeypatch: Any) -> None:
    served = ServedProgram.load(programs["films"])
    whole = type(served.model).outputs
    monkeypatch.setattr(
        type(served.model), "outputs", lambda self, batch: whole(self, batch) if "bad" not in batch else 1 / 0
    )
    found = served.answer(["good", "bad", "film"], 0.9)
    assert [bool(why) for why in found["problem"]] == [False, True, False] and found["prediction"][1] is None


def test_programs_of_one_source_share_it(programs: Any) -> None:
    first, second, other = (ServedProgram.load(programs[name]) for name in ("colours", "shades", "films"))
    assert first.model.source is second.model.source is not other.model.source
    assert first.digest != second.digest


def test_drift_and_logs() -> None:
    rng = np.random.default_rng(0)
    labelled = np.sort(rng.normal(0.8, 0.05, 300))
    assert drift(rng.normal(0.8, 0.05, 300), labelled) < 0.15 < 0.9 < drift(rng.normal(0.3, 0.05, 300), labelled)
    try:
        raise ValueError("C1CC1 is secret")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "C1CC1", (), sys.exc_info())
    line = json.loads(JsonLines().format(record))
    assert line["error"] == "ValueError" and "C1CC1" not in json.dumps(line)


def test_a_detector_keeps_its_false_alarms_and_finds_what_was_moved(programs: Any, models: Any, tmp_path: Path) -> None:
    model, rng = models["colours"], np.random.default_rng(0)
    every = [image.astype(np.float32) / 255 for image in pictures(260, 5)[0]]
    detector = Detector.calibrated(model, every[:160], 0.1)
    assert detector.examples == 54 and detector.false_alarms <= 0.1
    assert float((detector.suspicion(model, every[160:]) > detector.threshold).mean()) <= 0.2
    stripes = np.indices((12, 12)).sum(0) % 2 * np.float32(1)  # detail that simplifying takes away
    strange = [np.stack([stripes, 1 - stripes, stripes]), rng.random((3, 12, 12)).astype(np.float32)]
    scores = detector.suspicion(model, strange)
    assert (scores > detector.threshold).all()
    detector.save(tmp_path / "d", "mine")
    assert np.allclose(Detector.load(tmp_path / "d", "mine").suspicion(model, strange), scores)  # type: ignore[union-attr]
    assert Detector.load(tmp_path / "d", "another") is None and Detector.load(tmp_path / "none", "mine") is None
    (tmp_path / "d").write_bytes(b"{}" * 9)
    with pytest.raises(ArtifactError, match="is no detector"):
        Detector.load(tmp_path / "d", "mine")
    assert len(modality("text").simplified("one two three")["words"]) == 3 and modality("sequence").simplified("ACD E") == {}
    words = Detector.calibrated(models["films"], sentences(24, 1)[0])
    assert words.suspicion(models["films"], ["good", "the good film a"]).shape == (2,)


def test_votes_keep_what_inputs_mean() -> None:
    from rdkit import Chem

    copies = modality("molecule").variants("CC(=O)Oc1ccccc1C(=O)O", 8, 0)
    assert len(set(copies)) > 3 and len({Chem.CanonSmiles(copy) for copy in copies}) == 1
    image = torch.rand(3, 12, 12).numpy()
    for copy in modality("image").variants(image, 4, 0):
        assert copy.shape == image.shape and 0 <= copy.min() <= copy.max() <= 1


def test_certificates_are_sound_where_the_true_radius_is_known() -> None:
    """A linear classifier's boundary is a plane, and so is that of its smoothed classifier: the distance is the radius."""
    rng = torch.Generator().manual_seed(3)
    normal, wishes = torch.randn(3, 4, 4, generator=rng), Wishes(certify="l2", samples=2000, sigma=0.5)
    for row in range(12):
        image = torch.rand(3, 4, 4, generator=rng)
        side = float((image * normal).sum()) - 0.4 * float(normal.sum())

        def model(images: torch.Tensor) -> torch.Tensor:
            return torch.stack([(images * normal).sum((1, 2, 3)) - 0.4 * normal.sum(), torch.zeros(len(images))], 1)

        found = certify(model, image.numpy(), wishes, row)
        true = abs(side) / float(normal.norm())
        assert found.cohen <= true and (abstained(found) or found.label == int(side < 0))
        assert abstained(found) or found.cohen > 0.5 * min(true, 1.0) - 0.1


def test_an_engine_that_never_becomes_ready_is_given_up(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("mlserver")
    from reprogram.serving.front import GIVE_UP, EngineProcess

    monkeypatch.setattr(sys, "executable", "/bin/false")
    engine = EngineProcess(tmp_path, tmp_path / "socket")
    asyncio.run(engine.keep_alive("here"))
    assert engine.failed and engine.starts == GIVE_UP and not engine.ready


def asked(guard: Any, path: str, body: bytes = b"{}", **headers: str) -> tuple[int, bytes]:
    sent: list[Any] = []
    parts = [{"body": body[i : i + 65536], "more_body": i + 65536 < len(body)} for i in range(0, len(body) or 1, 65536)]
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": given}

    async def receive() -> Any:
        return {"type": "http.request"} | parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def test_the_guard_lets_nothing_pass_that_the_engine_would_choke_on(monkeypatch: Any) -> None:
    seen: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    ready = [True]
    guard = Guard(app, GuardSettings(body_mb=1), lambda: {"m"}, lambda: ready[0])
    assert asked(guard, "/v2/models/m/infer", gzip.compress(b'{"a": 1}'), content_encoding="gzip")[0] == 200
    assert seen == [b'{"a": 1}']
    for path, status in (("/v2/models/x/infer", 404), ("/v2/models/m/versions/7/infer", 404), ("/", 404), ("/v2/docs", 404)):
        assert asked(guard, path)[0] == status
    assert asked(guard, "/v2/models/m/infer", gzip.compress(b"0" * 2**24), content_encoding="gzip")[0] == 413
    assert asked(guard, "/v2/models/m/infer", b"junk", content_encoding="gzip")[0] == 400
    assert asked(guard, "/v2/models/m/infer", b"0" * (2 << 20))[0] == 413
    assert asked(guard, "/v2/models/m/infer", b"x", content_encoding="br")[0] == 415
    ready[0] = False
    assert asked(guard, "/v2/models/m/infer")[0] == 503 and asked(guard, "/v2/health/ready")[0] == 503
    assert len(seen) == 1 and guard.requests == guard.held == 0
    monkeypatch.setenv("T", "secret")
    guard = Guard(app, GuardSettings(token_env="T"), lambda: {"m"}, lambda: True)
    given = ("", "secret", "Bearer secre", "Bearer secret")
    assert [asked(guard, "/v2/models/m", authorization=one)[0] for one in given] == [401, 401, 401, 200]


def test_an_exported_folder_goes_elsewhere(programs: Any, tmp_path: Path) -> None:
    import yaml

    found = names([str(programs["colours"]), str(programs["colours"]), str(programs["films"])], "My Model!")
    assert list(found) == ["my-model", "colours", "films"]
    serving = Serving(port=9000, guard={"token_env": "TOKEN"})
    detector = Detector(("words",), (), np.zeros((1, 9)), 0.5, 0.05, 10)
    write_repository(tmp_path, found, serving, {"films": detector}, copy=True)
    write_container(tmp_path, serving, "registry/image:1", "my-model")
    settings = json.loads((tmp_path / "films" / "model-settings.json").read_text())
    assert settings["implementation"] == "reprogram.serving.ProgramRuntime" and settings["parameters"]["uri"] == "./program"
    moved = ServedProgram.load(tmp_path / "films" / "program", detector=tmp_path / "films" / "detector.safetensors")
    assert moved.describe()["detector"].items() >= {"threshold": 0.5, "false_alarms": 0.05, "examples": 10}.items()
    assert (tmp_path / "my-model" / "program" / "program.safetensors").exists()
    assert "reprogram[serving]" in (tmp_path / "Dockerfile").read_text()
    manifest = yaml.safe_load((tmp_path / "inference-service.yaml").read_text())
    container = manifest["spec"]["predictor"]["containers"][0]
    assert container["image"] == "registry/image:1" and container["ports"][0]["containerPort"] == 9000
    assert container["env"][1] == {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "my-model-token", "key": "token"}}}


def test_task_serve_exports_and_hands_over_to_the_server(programs: Any, typed: Any, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("mlserver")
    from reprogram.tasks import serve

    first = [f"program={programs['colours']}", f"task.also=[{programs['shades']}]"]
    code, stderr = typed("task=serve", *first, f"export={tmp_path}/out")
    assert code == 0, stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"colours", "shades", "settings.json", "Dockerfile", "inference-service.yaml"}
    started: list[str] = []
    monkeypatch.setattr(serve, "become", started.append)
    code, stderr = typed("task=serve", f"program={programs['films']}", "port=9100", "task.vote=3", folder="second")
    assert code == 0, stderr
    assert json.loads((Path(started[0]) / "settings.json").read_text())["http_port"] == 9100
    shown = [f"program={programs['colours']}", "target=image_folder", f"target.root={colour_files(tmp_path / 'data', 30)}"]
    code, stderr = typed("task=serve", *shown, "task.detect=true", folder="third")
    assert code == 0, stderr
    settings = json.loads((Path(started[1]) / "colours" / "model-settings.json").read_text())["parameters"]
    detecting = from_settings(settings["uri"], settings["extra"], Path(started[1]) / "colours")
    assert detecting.wishes.detect and detecting.describe()["detector"]["examples"] == 10
    for wrong, told in (("task.certify=l3", "task.certify"), ("task.detect=true", "add target="), ("port=0", "port=0")):
        code, stderr = typed("task=serve", f"program={programs['films']}", wrong, folder=f"wrong{len(told)}")
        assert code == 2 and told in stderr
