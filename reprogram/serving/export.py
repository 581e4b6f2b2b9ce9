"""What MLServer and KServe read: a folder a program with model-settings.json, settings.json, a Dockerfile, a manifest."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprogram import __version__
from reprogram.artifact import CARD_FILE, JSON_FILE, TENSOR_FILE, describe_program
from reprogram.errors import ConfigError
from reprogram.files import check_regular
from reprogram.result import write_atomically
from reprogram.serving.detector import FILE as DETECTOR_FILE
from reprogram.serving.detector import Detector
from reprogram.serving.program import digest_of

IMPLEMENTATION = "reprogram.serving.ProgramRuntime"


@dataclass
class Serving:
    """How programs are served: the options of ``task=serve``. options: of each model (``defaults``, ``limits``, ``audit``,
    ``device``). guard: of the server (:class:`~reprogram.serving.guard.GuardSettings`)."""

    host: str = "127.0.0.1"
    port: int = 8080
    batch: int = 32
    wait: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    guard: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """``settings.json``: the engine's, and ours under ``reprogram``."""
        return {
            "host": self.host,
            "http_port": self.port,
            "grpc_port": self.port + 1,
            "metrics_port": self.port + 2,
            "parallel_workers": 0,
            "debug": False,
            "gzip_enabled": False,
            "server_name": "reprogram",
            "server_version": __version__,
            "logging_settings": LOGGING,
            "reprogram": self.guard,
        }

    def model_settings(self, name: str, uri: str) -> dict[str, Any]:
        """``model-settings.json`` of one program."""
        return {
            "name": name,
            "implementation": IMPLEMENTATION,
            "max_batch_size": self.batch,
            "max_batch_time": self.wait,
            "parameters": {"uri": uri, "extra": self.options},
        }


def write_repository(
    folder: Path, programs: Mapping[str, str], serving: Serving, detectors: Mapping[str, Detector], copy: bool = False
) -> Path:
    """``folder`` as ``python -m reprogram.serving`` and ``mlserver start`` read it. programs: name -> folder or Hub id.

    copy: the programs lie inside, so that the folder can go elsewhere.
    """
    write_atomically(folder / "settings.json", _json(serving.settings()))
    for name, place in programs.items():
        home, uri = folder / name, str(Path(place).absolute()) if Path(place).is_dir() else place
        if copy:
            (home / "program").mkdir(parents=True, exist_ok=True)
            for file in (JSON_FILE, TENSOR_FILE, CARD_FILE):
                if file != CARD_FILE or (Path(place) / file).exists():
                    shutil.copyfile(check_regular(Path(place) / file), home / "program" / file)
            uri = "./program"
        write_atomically(home / "model-settings.json", _json(serving.model_settings(name, uri)))
        (home / DETECTOR_FILE).unlink(missing_ok=True)
        if name in detectors:
            detectors[name].save(home / DETECTOR_FILE, digest_of(describe_program(place)))
    return folder


def write_container(folder: Path, serving: Serving, image: str, name: str) -> None:
    """A Dockerfile for ``folder`` and a KServe InferenceService that runs its image."""
    write_atomically(folder / "Dockerfile", DOCKERFILE.format(version=__version__, port=serving.port))
    token = serving.guard.get("token_env")
    secret = SECRET.format(variable=token, name=name) if token else ""
    write_atomically(folder / "inference-service.yaml", MANIFEST.format(name=name, image=image, port=serving.port, secret=secret))


def names(programs: Sequence[str], wanted: str | None) -> dict[str, str]:
    """name -> program, each its own. wanted: the name of the first. Raises ArtifactError or ConfigError."""
    found: dict[str, str] = {}
    for place in programs:
        described = describe_program(place)
        if described["source"]["loader"] is None:
            raise ConfigError(
                f"The program in {place} was made for '{described['source']['name']}', which no file names; only programs whose "
                "source can be loaded by name are served."
            )
        name = wanted if wanted and not found else described["target"]["name"]
        name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60] or "program"
        number = next(n for n in range(1, 10_000) if (name if n == 1 else f"{name}-{n}") not in found)
        found[name if number == 1 else f"{name}-{number}"] = place
    return found


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


_LOGGERS = ("mlserver", "mlserver.rest", "mlserver.grpc", "mlserver.parallel", "uvicorn", "uvicorn.error", "reprogram.serving")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"failures": {"()": "reprogram.serving.metrics.Failures"}},
    "formatters": {"json": {"()": "reprogram.serving.metrics.JsonLines"}},
    "handlers": {
        "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json", "filters": ["failures"]}
    },
    "root": {"level": "WARNING", "handlers": ["out"]},
    "loggers": {name: {"level": "INFO", "handlers": ["out"], "propagate": False} for name in _LOGGERS},
}

DOCKERFILE = """\
FROM python:3.12-slim
RUN pip install --no-cache-dir 'reprogram[serving]=={version}'
RUN useradd --create-home serving
COPY --chown=serving . /models
USER serving
WORKDIR /home/serving
ENV MLSERVER_HOST=0.0.0.0 OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
EXPOSE {port}
CMD ["python", "-m", "reprogram.serving", "/models"]
"""

MANIFEST = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    minReplicas: 1
    containers:
      - name: kserve-container
        image: {image}
        args: ["python", "-m", "reprogram.serving", "/models"]
        ports:
          - name: http1
            containerPort: {port}
            protocol: TCP
        env:
          - name: PROTOCOL
            value: v2{secret}
        readinessProbe:
          httpGet: {{path: /v2/health/ready, port: {port}}}
          periodSeconds: 2
        livenessProbe:
          httpGet: {{path: /v2/health/live, port: {port}}}
          periodSeconds: 10
        resources:
          requests: {{cpu: "1", memory: 2Gi}}
          limits: {{cpu: "2", memory: 4Gi}}
        securityContext:
          allowPrivilegeEscalation: false
          runAsNonRoot: true
          runAsUser: 1000
"""

SECRET = """
          - name: {variable}
            valueFrom:
              secretKeyRef: {{name: {name}-token, key: token}}"""
