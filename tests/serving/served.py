"""Pictures, sentences, programs of tiny frozen models, and a server in a process of its own."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reprogram.applicability.base import Applicability
from reprogram.artifact import save_pretrained
from reprogram.hooks import Run
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.result import Result
from reprogram.tasks._run import keep_left_out
from reprogram.training.loop import Training

TOKEN = "a-token-of-the-tests"
WORDS = ("good", "bad")


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 3, 12, 12] in three colours, and the colours."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 110, (count, 3, 12, 12), dtype=np.uint8)
    images[np.arange(count), labels] += 130
    return images, labels


def sentences(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return [f"the {WORDS[label]} film {'abcdefgh'[rng.integers(8)]}" for label in labels], labels


def tones(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """float32 [1, L] low and high tones at 4,000 samples a second, of several lengths, and which."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    sounds = []
    for label in labels:
        times = np.arange(int(rng.integers(500, 800))) / 4000
        sounds.append(0.5 * np.sin(2 * np.pi * (300 if label == 0 else 1200) * times + rng.random())[None].astype(np.float32))
    return sounds, labels


def wav(sound: np.ndarray, rate: int = 4000) -> bytes:
    raw = io.BytesIO()
    with wave.open(raw, "wb") as file:
        file.setparams((len(sound), 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(sound.T * 32767).astype("<i2").tobytes())
    return raw.getvalue()


def png(image: np.ndarray) -> bytes:
    raw = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(raw, "PNG")
    return raw.getvalue()


def colour_files(folder: Path, tested: int) -> Path:
    """Pictures in the folders train/COLOUR and test/COLOUR, ``tested`` of them in test."""
    for place, (image, colour) in enumerate(zip(*pictures(12 + tested, 4), strict=True)):
        file = folder / ("train" if place < 12 else "test") / ("red", "green", "blue")[colour] / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    return folder


def coded(image: np.ndarray) -> str:
    return base64.b64encode(png(image)).decode()


def fit(folder: Path, source: Any, before: Any, examples: Any, info: TargetInfo) -> Path:
    task = TargetTask(info, examples, examples)
    model = ReprogrammedModel(source, before, RidgeTaps(), info)
    Training(epochs=0).fit(model, examples, Run(folder / "run", 0, Result("reprogram", 0)))
    model.applicability = Applicability.of(model, examples, range(len(examples)))
    keep_left_out(model, task, 0)
    return save_pretrained(model, folder / "program")


class Running:
    """A server in a process of its own."""

    def __init__(self, folder: Path, port: int, log: Path) -> None:
        self.folder, self.port, self.url, self.log = folder, port, f"http://127.0.0.1:{port}", log
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "SERVING_TOKEN": TOKEN}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reprogram.serving", str(folder)], env=environment, stdout=file, stderr=file
            )

    def wait(self, seconds: float = 120) -> float:
        """Seconds until every model was ready."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=5):
                return time.monotonic() - start
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def ask(self, path: str, data: Any = None, raw: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """(status, JSON) of a request with the token."""
        body = raw if raw is not None else None if data is None else json.dumps(data).encode()
        every = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"} | headers
        request = urllib.request.Request(f"{self.url}{path}", data=body, headers=every)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = reply.read()
                return reply.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def infer(self, model: str, items: list[Any], **parameters: Any) -> tuple[int, Any]:
        """(status, {output: data}) for texts or encoded pictures."""
        name = "image" if model in ("colours", "shades") else "text"
        tensor = {"name": name, "datatype": "BYTES", "shape": [len(items), 1], "data": items}
        status, told = self.ask(f"/v2/models/{model}/infer", {"inputs": [tensor], "parameters": parameters})
        return status, {o["name"]: o["data"] for o in told["outputs"]} if status == 200 else told

    def starter(self) -> int:
        """The process id of what the front started: engines are forked from it."""
        return children(self.process.pid)[0]

    def engine(self) -> int:
        """The process id of the engine."""
        return children(self.starter())[0]


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def free_port() -> int:
    """The first of three free ports in a row."""
    for port in range(20_000 + os.getpid() % 20_000, 60_000, 3):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for one in range(port, port + 3):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", one))
            return port
    raise AssertionError
