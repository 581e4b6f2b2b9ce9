"""A served program under load: its processes and memory, clients that check every answer, requests of a stranger."""

from __future__ import annotations

import base64
import gzip
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]


class ServedFolder:
    """``python -m reprogram.serving FOLDER`` in processes of its own, on the loopback, with one thread for the model."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.log = folder.parent / f"{folder.name}.log"
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "reprogram.serving", str(folder)]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        self.started = self.wait()

    def __enter__(self) -> ServedFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def wait(self, seconds: float = 300) -> float:
        """Seconds until it was ready."""
        start = time.monotonic()
        client = Client(self.port)
        while time.monotonic() - start < seconds:
            if self.process.poll() is not None:
                raise SystemExit(f"The server ended; its log is {self.log}.")
            if client.send("GET", "/v2/health/ready")[0] == 200:
                return time.monotonic() - start
            time.sleep(0.02)
        raise SystemExit(f"The server was not ready in {seconds:g} s; its log is {self.log}.")

    def engine(self) -> int:
        """Process id of the engine: what the process that the front started has forked, or that process itself."""
        starter = children(self.process.pid)[0]
        return (children(starter) or [starter])[0]

    def processes(self) -> list[int]:
        """Front, starter and engine."""
        return [self.process.pid, *children(self.process.pid), *(c for s in children(self.process.pid) for c in children(s))]

    def memory_mb(self) -> float:
        """Memory of all processes that is theirs alone or their share (PSS)."""
        return sum(pss_mb(pid) for pid in self.processes())

    def cpu_seconds(self) -> float:
        """Processor time of all processes so far."""
        total = 0.0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total


def children(pid: int) -> list[int]:
    """Process ids of what a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def pss_mb(pid: int) -> float:
    """Proportional share of a process's memory."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


class Client:
    """One connection that is kept; a lost one is made again for the next request and answers 0."""

    def __init__(self, port: int) -> None:
        self.port, self.connection = port, http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, Any]:
        try:
            self.connection.request(method, path, body, {"Content-Type": "application/json"} | (headers or {}))
            reply = self.connection.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return 0, None
        try:
            return reply.status, json.loads(data) if data else None
        except ValueError:
            return reply.status, data


def free_ports() -> int:
    """The first of three free ports in a row."""
    for port in range(30_000 + os.getpid() % 20_000, 60_000, 3):
        taken = [socket.socket() for _ in range(3)]
        try:
            for place, one in enumerate(taken):
                one.bind(("127.0.0.1", port + place))
            return port
        except OSError:
            continue
        finally:
            for one in taken:
                one.close()
    raise SystemExit("No three free ports in a row.")


def png(image: np.ndarray) -> str:
    """uint8 [C, H, W] as base64 of a PNG file."""
    raw = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(raw, "PNG")
    return base64.b64encode(raw.getvalue()).decode()


def request(name: str, items: Sequence[Any], **parameters: Any) -> bytes:
    """The body of a request with these texts or encoded pictures."""
    tensor = {"name": name, "datatype": "BYTES", "shape": [len(items), 1], "data": list(items)}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def table(reply: Any, output: str = "probabilities") -> np.ndarray:
    """An output as [N, …], NaN for null."""
    found = next(one for one in reply["outputs"] if one["name"] == output)
    return np.array([np.nan if v is None else v for v in found["data"]], float).reshape(found["shape"])


def closed_loop(port: int, path: str, bodies: Sequence[bytes], clients: int, seconds: float) -> tuple[int, float, list[float]]:
    """(requests answered with 200, seconds, their latencies) of clients that always wait for their answer."""
    latencies: list[float] = []
    end = time.monotonic() + seconds

    def one(first: int) -> None:
        client, place = Client(port), first
        while time.monotonic() < end:
            begun = time.monotonic()
            if client.send("POST", path, bodies[place % len(bodies)])[0] == 200:
                latencies.append(time.monotonic() - begun)
            place += clients

    begun = time.monotonic()
    _threads(one, clients)
    return len(latencies), time.monotonic() - begun, latencies


def open_loop(port: int, path: str, bodies: Sequence[bytes], rate: float, seconds: float, seed: int) -> list[float]:
    """Latencies of requests that arrive at random (Poisson) at this rate, whatever the server does; from the planned arrival."""
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1 / rate, int(rate * seconds) + 1))
    latencies: list[float] = []
    lock, place, start = threading.Lock(), [0], time.monotonic() + 0.1

    def one(_: int) -> None:
        client = Client(port)
        while True:
            with lock:
                mine = place[0]
                place[0] += 1
            if mine >= len(arrivals):
                return
            time.sleep(max(0.0, start + arrivals[mine] - time.monotonic()))
            client.send("POST", path, bodies[mine % len(bodies)])
            latencies.append(time.monotonic() - start - arrivals[mine])

    _threads(one, 24)
    return latencies


def _threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@cache
def large_picture(side: int) -> str:
    """A PNG of a few kilobytes with side x side pixels, in base64."""
    raw = io.BytesIO()
    Image.new("1", (side, side)).save(raw, "PNG")
    return base64.b64encode(raw.getvalue()).decode()


@cache
def packed_spaces(megabytes: int) -> bytes:
    """A body that unpacks to so many megabytes."""
    return gzip.compress(b" " * (megabytes << 20))


def malformed(rng: np.random.Generator, good: bytes) -> tuple[bytes, dict[str, str]]:
    """A request that a stranger sends: broken JSON, shapes that lie, values out of range, bombs."""
    kind = int(rng.integers(9))
    data = json.loads(good)
    tensor = data["inputs"][0]
    if kind == 0:
        return good[: int(rng.integers(len(good)))], {}
    if kind == 1:
        cut = bytearray(good)
        cut[int(rng.integers(len(cut)))] = int(rng.integers(32, 127))
        return bytes(cut), {}
    if kind == 2:
        return b"[" * int(rng.integers(1, 50_000)), {}
    if kind == 3:
        tensor["shape"] = [int(rng.integers(0, 2**40)), int(rng.integers(0, 9))]
    if kind == 4:
        tensor |= {"datatype": "FP32", "shape": [1, 3, 8, 8], "data": [float(v) for v in rng.normal(0, 9, 192)]}
    if kind == 5:
        tensor["data"] = [None, 3, {"a": 1}, "\u0000", "x" * 50_000][: int(rng.integers(1, 6))]
        tensor["shape"] = [len(tensor["data"]), 1]
    if kind == 6:
        tensor |= {"data": [large_picture(100 * int(rng.integers(30, 90)))], "shape": [1, 1]}
    if kind == 7:
        return packed_spaces(int(rng.integers(1, 80))), {"Content-Encoding": "gzip"}
    if kind == 8:
        data["parameters"] = {"confidence": "NaN", "certify": ["l2"], "samples": 10**12, "sigma": -1}
    return json.dumps(data).encode(), {}


Mix = Sequence[tuple[str, bytes, np.ndarray]]


def soak(port: int, mix: Mix, count: int, seed: int, watch: Callable[[], float]) -> dict[str, Any]:
    """``count`` requests from eight clients, one in ten malformed. mix: (path, body, its probabilities [N, T])."""
    statuses: Counter[str] = Counter()
    wrong, memory, lock = [0], [], threading.Lock()
    each = count // 8

    def one(number: int) -> None:
        rng, client = np.random.default_rng([seed, number]), Client(port)
        for turn in range(each):
            path, body, wanted = mix[int(rng.integers(len(mix)))]
            bad = rng.random() < 0.1
            headers: dict[str, str] = {}
            if bad:
                body, headers = malformed(rng, body)
            status, reply = client.send("POST", path, body, headers)
            with lock:
                statuses[f"{'malformed' if bad else 'valid'} {status}"] += 1
                if not bad and (status != 200 or not np.allclose(table(reply), wanted, atol=1e-4, equal_nan=True)):
                    wrong[0] += 1
                if number == 0 and turn % max(each // 40, 1) == 0:
                    memory.append(watch())

    begun = time.monotonic()
    _threads(one, 8)
    settled = memory[len(memory) // 10 :]
    return {
        "requests": 8 * each,
        "seconds": time.monotonic() - begun,
        "statuses": dict(sorted(statuses.items())),
        "valid_answered_wrongly_or_not": wrong[0],
        "memory_mb": [round(settled[0]), round(settled[-1]), round(min(settled)), round(max(settled))],
    }


def kills(server: ServedFolder, mix: Mix, times: int) -> dict[str, Any]:
    """The engine is killed (SIGKILL) under the load of four clients, again and again."""
    stop, statuses, wrong = threading.Event(), Counter[int](), [0]

    def one(number: int) -> None:
        client, place = Client(server.port), number
        while not stop.is_set():
            path, body, wanted = mix[place % len(mix)]
            status, reply = client.send("POST", path, body)
            statuses[status] += 1
            if status == 200 and not np.allclose(table(reply), wanted, atol=1e-4, equal_nan=True):
                wrong[0] += 1
            if status != 200:
                time.sleep(0.05)
            place += 1

    threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    back, ready = [], Client(server.port)
    for _ in range(times):
        time.sleep(1.0)
        os.kill(server.engine(), signal.SIGKILL)
        begun = time.monotonic()
        while ready.send("GET", "/v2/health/ready")[0] == 200 and time.monotonic() - begun < 5:
            time.sleep(0.01)
        server.wait()
        back.append(round(time.monotonic() - begun, 2))
    stop.set()
    for thread in threads:
        thread.join()
    return {"back_seconds": back, "statuses": {str(k): v for k, v in sorted(statuses.items())}, "wrong": wrong[0]}
