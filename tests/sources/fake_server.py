"""A small Open Inference Protocol v2 server that can be told to misbehave."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

WEIGHTS = np.random.default_rng(0).standard_normal((3 * 4 * 4, 5)).astype(np.float32)


def probabilities(images: np.ndarray) -> np.ndarray:
    """Softmax of a linear function of 4x4 images; of larger ones every so many pixels are read."""
    rows, columns = (np.arange(4) * side // 4 for side in images.shape[-2:])
    images = images[:, :, rows][..., columns]
    logits = images.reshape(len(images), -1) @ WEIGHTS
    values = np.exp(logits - logits.max(1, keepdims=True))
    return values / values.sum(1, keepdims=True)


class FakeServer(ThreadingHTTPServer):
    """``misbehave(server, images, handler)`` may return (status, headers, body) instead of an answer, or None."""

    daemon_threads = True

    def __init__(
        self, misbehave: Callable[..., Any] | None = None, version: str = "7", datatype: str = "FP32", port: int = 0
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.misbehave, self.version, self.datatype = misbehave, version, datatype
        self.names_versions = True  # False: only the index tells, as MLServer does
        self.requests = 0
        self.answered: list[bytes] = []
        self.tokens: set[str | None] = set()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that hung up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith("/ready"):
            self.reply(200, {}, b"{}")
            return
        described = {
            "name": "tiny",
            "versions": [self.server.version] if self.server.names_versions else [],
            "inputs": [{"name": "pixels", "datatype": self.server.datatype, "shape": [-1, 3, -1, -1]}],
        }
        self.reply(200, {}, json.dumps(described).encode())

    def do_POST(self) -> None:
        if self.path == "/v2/repository/index":
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(200, {}, json.dumps([{"name": "tiny", "version": self.server.version}]).encode())
            return
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"][0]
        if self.server.datatype == "BYTES":
            files = [Image.open(io.BytesIO(base64.b64decode(text))) for text in request["data"]]
            images = np.stack([np.asarray(file, np.float32).transpose(2, 0, 1) for file in files])
        else:
            images = np.asarray(request["data"], np.float32).reshape(request["shape"])
        if self.server.datatype != "FP32":
            images = images / 255
        with self.server.lock:
            self.server.requests += 1
            self.server.tokens.add(self.headers.get("Authorization"))
        wrong = self.server.misbehave(self.server, images) if self.server.misbehave else None
        if wrong is not None:
            self.reply(*wrong)
            return
        with self.server.lock:
            self.server.answered += [image.tobytes() for image in images]
        self.reply(200, {}, answer(probabilities(images), self.server.version))

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def answer(values: np.ndarray, version: str = "7", **more: Any) -> bytes:
    output = {"name": "probabilities", "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
    return json.dumps({"model_name": "tiny", "model_version": version, "outputs": [output | more]}).encode()


def slow(seconds: float) -> Callable[..., None]:
    return lambda server, images: time.sleep(seconds)
