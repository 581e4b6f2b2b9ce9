"""MLServer with EfficientNet-Lite0 in its own process, on free ports of the loopback, for as long as it is needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType

SERVING = Path(__file__).parent / "serving"


class Service:
    """``with Service("mlserver") as url: …``; ``command`` is MLServer's executable."""

    def __init__(self, command: str, log: Path) -> None:
        self.command, self.log = command, log

    def __enter__(self) -> str:
        self.folder = Path(tempfile.mkdtemp(prefix="serving_"))
        shutil.copytree(SERVING, self.folder, dirs_exist_ok=True)
        ports = _free_ports(3)
        settings = json.loads((SERVING / "settings.json").read_text())
        settings |= dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
        (self.folder / "settings.json").write_text(json.dumps(settings))
        environment = os.environ | {"PYTHONPATH": str(SERVING.parents[1]), "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [self.command, "start", str(self.folder)], stdout=log, stderr=log, env=environment
            )
        url = f"http://127.0.0.1:{ports[0]}"
        self._wait(f"{url}/v2/models/efficientnet_lite0/ready")
        return url

    def _wait(self, url: str, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(url, timeout=2)
                return
            except OSError:
                time.sleep(0.5)
        self.__exit__(None, None, None)
        raise SystemExit(f"The server did not come up; its log is {self.log}.")

    def cpu_seconds(self) -> float:
        """CPU time that the server has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()
