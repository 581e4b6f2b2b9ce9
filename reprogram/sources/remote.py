"""A model behind the Open Inference Protocol v2 over HTTP: what KServe, Triton and MLServer serve.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol (REST part: server and model
readiness, model metadata, inference). Needs the extra ``blackbox``.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

import numpy as np

from reprogram.errors import ReprogramError, SourceError, nearest
from reprogram.ledger import Charge, Refused
from reprogram.ranges import NotEmpty, NotNegative, Range, Seconds
from reprogram.service import Service, ServiceReply, StatusError, needed
from reprogram.sources._asked import AskedSource
from reprogram.sources._labels import read_labels

BAD_INPUT = (400, 413, 415, 422)  # statuses that one image of a request can be to blame for
SERVED = "served"  # labels as the metadata names them
LONGEST_NUMBER = 64  # bytes of JSON for one value, with room to spare


class RemoteSource(AskedSource):
    """url: the server's root, e.g. ``http://127.0.0.1:8080``. model, model_version: which model of the server.

    labels: the model's class names in column order (a list, a file with one a line, ``imagenet``, or ``served``: the
        ``classes`` in its metadata, which ``task=serve`` gives).
    output: the name of the output tensor to read, None for the first. ``answers=top_k`` reads two outputs, ``scores``
        [B, k] and ``labels`` [B, k] of names (BYTES) or indices; ``answers=label`` reads names or indices [B].
    token_env, header, scheme, verify, timeout, retries, pause: :class:`~reprogram.service.Service`'s. A user and a
        password in ``url`` are used and never written anywhere.
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
        verify: str | None = None,
        **asked: Any,
    ) -> None:
        needed("orjson")
        http = Service(url.rstrip("/"), "source", token_env, header, scheme, verify, timeout, retries, pause)
        url = self.options["url"] = http.address
        root = f"/v2/models/{quote(model, safe='')}"
        root += f"/versions/{quote(model_version, safe='')}" if model_version else ""
        if http.send("GET", f"{root}/ready", accepted=(200, 400, 404)).status != 200:
            raise SourceError(f"{url} is up, but its model '{model}' is not ready; wait for it or check source.model.")
        described = _object(http.send("GET", root), url)
        try:
            version = model_version or _version_of(described, _index(http), model)
            wanted = _input_of(described, url)
            if labels == SERVED:
                labels = _classes_of(described, url)
        except (AttributeError, KeyError, TypeError) as error:
            raise SourceError(f"{url} describes its model '{model}' in a way that cannot be read.") from error
        super().__init__(f"{model} at {url}", read_labels(labels), version, known_as=model, **asked)
        self._http, self._root, self._output = http, root, output
        self._input = wanted
        self._column = {label: index for index, label in enumerate(self.labels)}
        self._agreed = threading.Lock()
        self._answering = "" if version == "unversioned" else version

    def ask(self, images: np.ndarray) -> np.ndarray:
        return self.request(list(images), Charge())

    def request(self, images: list[np.ndarray], charge: Charge) -> np.ndarray:
        import orjson

        whole = np.stack(images)
        body = orjson.dumps({"inputs": [self._encoded(whole)]}, option=orjson.OPT_SERIALIZE_NUMPY)
        largest = (1 << 20) + LONGEST_NUMBER * len(images) * len(self.labels)
        try:
            answer = self._http.send("POST", f"{self._root}/infer", body, charge, largest=largest)
        except StatusError as error:
            if error.status in BAD_INPUT:
                raise Refused(str(error)) from None
            raise
        try:
            return self._read(_object(answer, self._http.address), whole)
        except ReprogramError:
            raise
        except Exception as error:  # an answer that nobody foresaw is paid for; asking again would be paid for again
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
            raise SourceError(f"{self.name} answers what cannot be read ({what}).") from error

    def _read(self, reply: dict[str, Any], images: np.ndarray) -> np.ndarray:
        """The answers of a reply, [B, S]."""
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
                    f"{self.name} changed from version {self._answering} to {found} during the run; answers "
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


def _object(answer: ServiceReply, url: str) -> dict[str, Any]:
    """The JSON object of an answer."""
    import orjson

    found: Any
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:  # NaN is not JSON, but servers write it
        found = answer.json()
    if not isinstance(found, dict):
        raise SourceError(f"{url} answered {answer.kind or 'something'} that is not JSON; is source.url right?")
    return found


def _index(http: Service) -> list[dict[str, Any]]:
    """The models that the server lists (the protocol's repository extension), nothing where it lists none."""
    reply = http.send("POST", "/v2/repository/index", b"{}", accepted=range(100, 600))
    listed = reply.json() if reply.status == 200 else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _version_of(described: dict[str, Any], index: list[dict[str, Any]], model: NotEmpty) -> str:
    """The newest version that the metadata names, else the one that the server's index names (MLServer)."""
    versions = described.get("versions") or [e.get("version") for e in index if e.get("name") == model]
    named = [str(version) for version in versions if version]
    return named[-1] if named else "unversioned"


def _classes_of(described: dict[str, Any], url: NotEmpty) -> list[str]:
    """What the metadata calls the model's classes."""
    found = (described.get("parameters") or {}).get("classes")
    if not isinstance(found, list) or not found:
        raise SourceError(f"The model at {url} does not name its classes, so source.labels={SERVED} is unknown; give a list.")
    return [str(name) for name in found]


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
