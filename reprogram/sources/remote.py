"""A model behind the Open Inference Protocol v2 over HTTP: what KServe, Triton and MLServer serve.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol (REST part: server and model
readiness, model metadata, inference). Needs the extra ``blackbox``.
"""

from __future__ import annotations

import base64
import io
import os
import random
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np

from reprogram.errors import ConfigError, SourceError, nearest
from reprogram.ranges import NotEmpty, NotNegative, Range, Seconds
from reprogram.sources._asked import AskedSource
from reprogram.sources._labels import read_labels

RETRIED = (429, 500, 502, 503, 504)
REFUSED = {401: "the token is wrong or missing", 403: "the token is not allowed to use this model"}
LONGEST_WAIT = 30.0  # seconds between two tries


class RemoteSource(AskedSource):
    """url: the server's root, e.g. ``http://127.0.0.1:8080``. model, model_version: which model of the server.

    labels: the model's class names in column order (a list, a file with one a line, or ``imagenet``).
    output: the name of the output tensor to read, None for the first. ``answers=top_k`` reads two outputs, ``scores``
        [B, k] and ``labels`` [B, k] of names (BYTES) or indices; ``answers=label`` reads names or indices [B].
    token_env: name of the environment variable that holds the token; it is read when a request is sent, and never
        logged or saved. header, scheme: sent as ``header: scheme TOKEN``.
    timeout: seconds a request may take. retries: how often a request is sent again after 429, a 5xx status, a lost
        connection or a time-out, after growing pauses (a ``Retry-After`` is obeyed up to 30 s).
    budget, journal, cache, batch, workers, …: :class:`AskedSource`'s.

    Images go out as the model's metadata asks: FP32 or UINT8 [B, 3, h, w], or BYTES (PNG, base64). UINT8 and PNG round
    pixels to 1/255: keep zeroth-order steps well above that.
    """

    options_of: ClassVar[type] = AskedSource

    def __init__(
        self,
        url: NotEmpty,
        model: NotEmpty,
        labels: Sequence[str] | str,
        model_version: str | None = None,
        output: str | None = None,
        token_env: str | None = None,
        header: NotEmpty = "Authorization",
        scheme: str = "Bearer",
        timeout: Seconds = 30.0,
        retries: Annotated[int, Range(0, 1000)] = 5,
        pause: NotNegative = 0.5,
        **asked: Any,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"source.url={url} must start with http:// or https://.")
        http = _Client(url.rstrip("/"), token_env, header, scheme, timeout, retries, pause)
        root = f"/v2/models/{model}" + (f"/versions/{model_version}" if model_version else "")
        if not http.is_ready(f"{root}/ready"):
            raise SourceError(f"{url} is up, but its model '{model}' is not ready; wait for it or check source.model.")
        described = http.get(root)
        version = model_version or _version_of(described, http.index(), model)
        super().__init__(f"{model} at {url}", read_labels(labels), version, billed=True, known_as=model, **asked)
        self._http, self._root, self._output = http, root, output
        self._input = _input_of(described, url)
        self._column = {label: index for index, label in enumerate(self.labels)}
        self._agreed = threading.Lock()
        self._answering = "" if version == "unversioned" else version

    def ask(self, images: np.ndarray) -> np.ndarray:
        reply = self._http.post(f"{self._root}/infer", {"inputs": [self._encoded(images)]})
        self._check_version(reply)
        outputs = {str(o.get("name")): o for o in reply.get("outputs") or [] if isinstance(o, dict)}
        if self.answers == "top_k":
            return self.checked(self._best_few(outputs, len(images)), len(images))
        output = self._pick(outputs, self._output)
        if self.answers == "label":
            columns = [self._index(name) for name in output["data"]]
            return self.checked(np.eye(len(self.labels), dtype=np.float32)[columns], len(images))
        return self.checked(_array(output, self.name), len(images))

    def _encoded(self, images: np.ndarray) -> dict[str, Any]:
        name, datatype = self._input
        if datatype == "FP32":
            return {"name": name, "datatype": "FP32", "shape": list(images.shape), "data": images.reshape(-1)}
        pixels = np.rint(images * 255).astype(np.uint8)
        if datatype == "UINT8":
            return {"name": name, "datatype": "UINT8", "shape": list(images.shape), "data": pixels.reshape(-1)}
        return {"name": name, "datatype": "BYTES", "shape": [len(images), 1], "data": [_png(p) for p in pixels]} | {
            "parameters": {"content_type": "base64"}
        }

    def _check_version(self, reply: dict[str, Any]) -> None:
        """The version that answers must stay the one whose answers the journal and the cache hold."""
        found = str(reply.get("model_version") or self.version)
        with self._agreed:
            self._answering = self._answering or found
            if found != self._answering:
                raise SourceError(
                    f"{self.name} changed from version {self._answering} to {found} while it was being asked; answers "
                    "of two versions cannot be mixed: start again with a new run_dir and source.cache."
                )

    def _pick(self, outputs: dict[str, Any], name: str | None) -> dict[str, Any]:
        if not outputs:
            raise SourceError(f"{self.name} answered without outputs.")
        if name is not None and name not in outputs:
            raise SourceError(f"{self.name} has no output '{name}'; {nearest(name, outputs)}")
        return outputs[name] if name is not None else next(iter(outputs.values()))

    def _best_few(self, outputs: dict[str, Any], images: int) -> np.ndarray:
        scores = _array(self._pick(outputs, "scores"), self.name)
        names = self._pick(outputs, "labels")["data"]
        if scores.ndim != 2 or len(names) != scores.size:
            raise SourceError(f"{self.name} answers {scores.shape} scores but {len(names)} labels.")
        columns = np.array([self._index(name) for name in names]).reshape(scores.shape)
        values = np.zeros((len(scores), len(self.labels)), np.float32)
        np.put_along_axis(values, columns, scores, 1)
        return values

    def _index(self, name: Any) -> int:
        """A label's column, from its name or its number."""
        if isinstance(name, int) and 0 <= name < len(self.labels):
            return name
        if name not in self._column:
            raise SourceError(f"{self.name} answers the label {name!r}, which source.labels does not have.")
        return self._column[name]


class _Client:
    """HTTP with a token, time-outs and retries; every failure is one sentence without the token."""

    def __init__(
        self,
        url: NotEmpty,
        token_env: str | None,
        header: NotEmpty,
        scheme: str,
        timeout: Seconds,
        retries: Annotated[int, Range(0, 1000)],
        pause: NotNegative,
    ) -> None:
        import httpx

        self.url, self.token_env, self.header, self.scheme = url, token_env, header, scheme
        self.timeout, self.retries, self.pause = timeout, retries, pause
        if token_env and not os.environ.get(token_env):
            raise ConfigError(f"source.token_env={token_env}, but that environment variable is not set.")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx.Client(timeout=timeout, limits=limits, trust_env=False)

    def is_ready(self, path: str) -> bool:
        return self._send("GET", path, None, accepted=(200, 400, 404)).status_code == 200

    def get(self, path: str) -> dict[str, Any]:
        return self._json(self._send("GET", path, None))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        import orjson

        return self._json(self._send("POST", path, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)))

    def index(self) -> list[Any]:
        """The models that the server lists (the protocol's repository extension), nothing where it lists none."""
        reply = self._send("POST", "/v2/repository/index", b"{}", accepted=range(100, 600))
        listed = _lenient(reply.text) if reply.status_code == 200 else None
        return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []

    def _headers(self) -> dict[str, str]:
        token = os.environ.get(self.token_env, "") if self.token_env else ""
        sent = {"Content-Type": "application/json"}
        return sent | ({self.header: f"{self.scheme} {token}".strip()} if token else {})

    def _send(self, method: str, path: str, body: bytes | None, accepted: Sequence[int] = (200,)) -> Any:
        import httpx

        problem = ""
        for attempt in range(self.retries + 1):
            wanted_pause = None
            try:
                reply = self._http.request(method, self.url + path, content=body, headers=self._headers())
            except httpx.TimeoutException:
                problem = f"did not answer within {self.timeout:g} s"
            except httpx.TransportError as error:
                problem = f"cannot be reached ({type(error).__name__})"
            else:
                if reply.status_code in accepted:
                    return reply
                if reply.status_code in REFUSED:
                    raise SourceError(
                        f"{self.url} refused with {reply.status_code}: {REFUSED[reply.status_code]} "
                        f"(source.token_env={self.token_env})."
                    )
                problem = f"answered {path} with status {reply.status_code}"
                if reply.status_code not in RETRIED:
                    raise SourceError(f"{self.url} {problem}: {_said(reply)}")
                wanted_pause = reply.headers.get("Retry-After")
            if attempt < self.retries:
                time.sleep(self._pause(attempt, wanted_pause))
        raise SourceError(f"{self.url} {problem} (tries: {self.retries + 1}); what was answered before is kept.")

    def _pause(self, attempt: int, wanted: str | None) -> float:
        """Seconds: doubled each time, with up to half added at random so that clients do not return in step."""
        if wanted is not None and wanted.isdigit():
            return min(float(wanted), LONGEST_WAIT)
        return min(self.pause * 2**attempt * (1 + random.random() / 2), LONGEST_WAIT)

    def _json(self, reply: Any) -> dict[str, Any]:
        import orjson

        kind = reply.headers.get("Content-Type", "").split(";")[0]
        try:
            answer = orjson.loads(reply.content)  # NaN is not JSON; servers that write it are met by the next line
        except orjson.JSONDecodeError:
            answer = _lenient(reply.text)
        if not isinstance(answer, dict):
            raise SourceError(f"{self.url} answered {kind or 'something'} that is not JSON; is source.url right?")
        return answer


def _lenient(text: str) -> Any:
    """JSON with the NaN and Infinity that Python servers write."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return None


def _said(reply: Any) -> str:
    """The server's own words, cut short."""
    return " ".join(reply.text.split())[:200] or "no reason given"


def _version_of(described: dict[str, Any], index: list[dict[str, Any]], model: NotEmpty) -> str:
    """The newest version that the metadata names, else the one that the server's index names (MLServer)."""
    versions = described.get("versions") or [e.get("version") for e in index if e.get("name") == model]
    named = [str(version) for version in versions if version]
    return named[-1] if named else "unversioned"


def _input_of(described: dict[str, Any], url: NotEmpty) -> tuple[str, str]:
    """Name and datatype of the model's only input."""
    inputs = described.get("inputs") or [{"name": "input", "datatype": "FP32"}]
    if len(inputs) != 1 or inputs[0].get("datatype") not in ("FP32", "UINT8", "BYTES"):
        found = ", ".join(f"{i.get('name')} {i.get('datatype')}" for i in inputs)
        raise SourceError(f"The model at {url} reads {found}; one image input of FP32, UINT8 or BYTES is expected.")
    return str(inputs[0]["name"]), str(inputs[0]["datatype"])


def _array(output: dict[str, Any], name: str) -> np.ndarray:
    try:
        values = np.asarray(output["data"], np.float32)  # None, as some servers write NaN, becomes NaN
        return values.reshape(output["shape"])
    except (KeyError, ValueError, TypeError) as error:
        shape = output.get("shape")
        raise SourceError(f"{name} answers data that does not fill its own shape {shape}: {error}.") from error


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    raw = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(raw, "PNG", compress_level=1)
    return base64.b64encode(raw.getvalue()).decode()
