"""A service that bills: an Open Inference Protocol v2 server that counts every image it answers, then misbehaves.

``answered`` is the service's own count: an image is on it from the moment that the service starts to answer it, whether
or not the answer arrives. Run as ``faulty_server.py PORT LOG``, it writes the count to a file and can be killed.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

LABELS = ["ant", "bee", "cat", "dog", "elk"]


def probabilities(images: np.ndarray) -> np.ndarray:
    """Five values an image that sum to one, another mix for each image."""
    parts = np.array_split(images.reshape(len(images), -1), 5, axis=1)
    values = np.stack([part.mean(1) for part in parts], 1) + 0.1
    return (values / values.sum(1, keepdims=True)).astype(np.float32)


def answer(values: Any, **more: Any) -> bytes:
    shape = list(np.shape(values))
    output = {"name": "p", "datatype": "FP32", "shape": shape, "data": np.ravel(values).tolist()}
    return json.dumps({"model_name": "tiny", "model_version": "7", "outputs": [output | more]}).encode()


Fault = Callable[["Handler", np.ndarray], bool]  # True: it has replied


class Server(ThreadingHTTPServer):
    """``fault(handler, images)`` sees each inference request first, and returns True where it has dealt with it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, fault: Fault | None = None, port: int = 0, certificate: tuple[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.fault, self.requests, self.answered = fault, 0, 0
        self.headers: list[dict[str, str]] = []
        self.log: int | None = None
        self.lock = threading.Lock()
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def bill(self, images: int) -> None:
        with self.lock:
            self.answered += images
            if self.log is not None:
                os.write(self.log, b"x\n" * images)

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that hung up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        described = {"name": "tiny", "versions": ["7"], "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}
        self.reply(200, b"{}" if self.path.partition("?")[0].endswith("/ready") else json.dumps(described).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.partition("?")[0].endswith("/infer"):
            self.reply(404, b"{}")
            return
        request = json.loads(body)["inputs"][0]
        images = np.asarray(request["data"], np.float32).reshape(request["shape"])
        with self.server.lock:
            self.server.requests += 1
            self.server.headers.append(dict(self.headers))
        if self.server.fault is None or not self.server.fault(self, images):
            self.serve(images)

    def serve(self, images: np.ndarray) -> None:
        self.sell(images, answer(probabilities(images)))

    def sell(self, images: np.ndarray, body: bytes, length: int | None = None) -> None:
        """Bill, then answer 200."""
        self.server.bill(len(images))
        self.reply(200, body, length=length)

    def reply(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Hang up at once (TCP RST)."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


if __name__ == "__main__":
    with Server(lambda handler, images: time.sleep(0.02) or False, port=int(sys.argv[1])) as server:
        server.log = os.open(Path(sys.argv[2]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        print(server.server_port, flush=True)
        threading.Event().wait()
