"""The MLServer runtime: a request of the Open Inference Protocol in, answers with everything known of them out.

Only MLServer is imported at the top: torch and the model come with ``load``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlserver import MLModel, ModelSettings
from mlserver.errors import MLServerError
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataTensor,
    Parameters,
    ResponseOutput,
)
from mlserver.utils import get_model_uri

from reprogram.serving.token import right_token

if TYPE_CHECKING:
    from reprogram.serving.reading import ReadTensor
    from reprogram.serving.wishes import Wishes

log = logging.getLogger("reprogram.serving")
BATCHING = "batching"  # in ``parameters.extra``: what this runtime took over from the engine's own settings
NUMBER, TEXT, PLACE = "FP32", "BYTES", "INT64"
TYPES = {"nearest_row": PLACE, "low": NUMBER, "high": NUMBER, "radius": NUMBER, "votes": NUMBER, "suspicion": NUMBER}


class ProgramRuntime(MLModel):
    """``parameters.uri``: the program's folder. ``parameters.extra``: ``defaults`` and ``limits`` of requests
    (:mod:`reprogram.serving.wishes`), ``token_env``, ``audit``, ``device``. ``max_batch_size`` and ``max_batch_time`` are
    MLServer's, with batching that checks first (:mod:`reprogram.serving.batching`)."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        extra = (settings.parameters.extra if settings.parameters else None) or {}
        if BATCHING not in extra:
            extra[BATCHING] = {"size": settings.max_batch_size or 32, "seconds": settings.max_batch_time}
        settings.max_batch_size, settings.max_batch_time = 0, 0.0  # so that the engine adds no batching of its own
        if settings.parameters is not None:
            settings.parameters.extra = extra
        self.extra: dict[str, Any] = extra

    async def load(self) -> bool:
        """Ready after a first answer."""
        self._uri = await get_model_uri(self._settings)
        try:
            await asyncio.to_thread(self._load)
        except Exception as error:  # the engine removes the model, and the log would not say why
            log.error(f"{self.name} cannot be loaded: {error}")
            raise
        settings = self.extra[BATCHING]
        from reprogram.serving.batching import Batcher

        most = self.program.reader.limits.waiting
        self._batcher = Batcher(self.program.answer, threads("answers"), settings["size"], settings["seconds"], most)
        self._batcher.sizes = self._observer.batch
        self._hardening = 0
        self._settings.versions = [self.program.digest]
        self._settings.platform = "reprogram"
        self.inputs, self.outputs = self._described()
        return True

    def _load(self) -> None:
        from reprogram.serving.metrics import Observer
        from reprogram.serving.program import from_settings

        home = Path(self._settings._source or "model-settings.json").parent
        self.program = from_settings(self._uri, self.extra, home)
        self.program.warm_up()
        self._observer = Observer(self.name, self.program.labelled_similarity(), self.extra.get("audit"))

    async def unload(self) -> bool:
        """Whatever is being answered is answered first."""
        if hasattr(self, "_batcher"):
            await self._batcher.drained()
            self._observer.close()
        return True

    async def metadata(self) -> MetadataModelResponse:
        """The protocol's metadata; ``parameters`` say the classes, the defaults, the limits and the detector's false alarms."""
        found = await super().metadata()
        found.parameters = Parameters(**self.program.describe())
        return found

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One request. Errors of the request as a whole have a status; an error of one input is in ``problem``."""
        from reprogram.serving.wishes import RefusedRequest

        started = time.perf_counter()
        try:
            cells, wishes = await self._answer(payload)
        except RefusedRequest as error:
            self._observer.refused(error.status)
            raise MLServerError(str(error), error.status) from None
        except MLServerError as error:
            self._observer.refused(error.status_code)
            raise
        except Exception as error:
            self._observer.refused(500)
            raise MLServerError(f"The program could not answer ({type(error).__name__}).", 500) from error
        self._observer.answered(payload.id or "", cells, wishes, time.perf_counter() - started)
        outputs = self._outputs(cells, [output.name for output in payload.outputs or []])
        return InferenceResponse(model_name=self.name, model_version=self.program.digest, outputs=outputs)

    async def _answer(self, payload: InferenceRequest) -> tuple[dict[str, list[Any]], Wishes]:
        parameters = {} if payload.parameters is None else payload.parameters.model_dump()
        check_token(self.extra.get("token_env"), parameters.pop("headers", None))
        content_type = parameters.pop("content_type", None)
        wishes = self.program.wishes.changed(parameters)
        self.program.check(wishes)
        loop, strict = asyncio.get_running_loop(), wishes.input_check == "strict"
        found = await loop.run_in_executor(threads("reading"), self._read, payload, content_type, strict)
        good = found.good
        answered = await self._batcher.ask([found.contents[i] for i in good], wishes.confidence) if good else {}
        cells = placed(answered, good, found.problems)
        if not wishes.plain:
            cells |= await self._hardened(found, wishes)
        return cells, wishes

    def _read(self, payload: InferenceRequest, content_type: str | None, strict: bool) -> ReadTensor:
        from reprogram.serving.wishes import RefusedRequest

        name = self.program.reader.name
        if len(payload.inputs) != 1 or payload.inputs[0].name != name:
            found = ", ".join(f"'{str(one.name)[:40]}'" for one in payload.inputs[:5]) or "none"
            raise RefusedRequest(f"A request has one input, '{name}'; this one has {found}.")
        return self.program.reader.read(Tensor(payload.inputs[0], content_type), strict)

    async def _hardened(self, found: ReadTensor, wishes: Wishes) -> dict[str, list[Any]]:
        from reprogram.serving.wishes import RefusedRequest

        if self._hardening >= 16:
            raise RefusedRequest("Too many certificates, votes and checks are waiting; send the request again later.", 503)
        self._hardening += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads("hardening"), self.program.harden, found, wishes)
        finally:
            self._hardening -= 1

    def _outputs(self, cells: dict[str, list[Any]], wanted: list[str]) -> list[ResponseOutput]:
        """The tensors of a response, those that are wanted or all; probabilities and values first."""
        tensors = {} if self.program.values else {"probabilities": probabilities(cells, self.program.classes)}
        for name, column in cells.items():
            if not name.startswith("p:"):
                one = tensor(name, column, self.program.values)
                tensors[one.name] = one
        for name in wanted:
            if name not in tensors:
                raise MLServerError(f"There is no output '{name[:80]}'; allowed: {', '.join(tensors)}.", 400)
        return [tensors[name] for name in wanted or tensors]

    def _described(self) -> tuple[list[MetadataTensor], list[MetadataTensor]]:
        """Inputs and outputs for the metadata."""
        size = len(self.program.classes)
        wishes = self.program.wishes
        cells = self.program.answer([], wishes.confidence)
        outputs = [] if self.program.values else [MetadataTensor(name="probabilities", datatype=NUMBER, shape=[-1, size])]
        for name in cells:
            if not name.startswith("p:"):
                one = tensor(name, [], self.program.values)
                outputs.append(MetadataTensor(name=one.name, datatype=one.datatype, shape=[-1, 1]))
        shape = self.program.model.target.input_shape
        told: dict[str, Any] = {"content_type": "str"}
        if shape:
            told = {"content_type": "base64", "pixels" if self.program.reader.images else "signal": list(shape)}
        name = self.program.reader.name
        return [MetadataTensor(name=name, datatype=TEXT, shape=[-1, 1], parameters=Parameters(**told))], outputs


@cache
def threads(work: str) -> ThreadPoolExecutor:
    """One thread for each kind of work, shared by all programs: each thread that runs a model keeps memory of its own."""
    return ThreadPoolExecutor(1, thread_name_prefix=work)


class Tensor:
    """A tensor of a request, plain: ``data`` is a list, ``content_type`` the tensor's or the request's."""

    def __init__(self, given: Any, content_type: str | None) -> None:
        own = given.parameters.content_type if given.parameters else None
        self.shape, self.content_type = given.shape, own or content_type
        self.datatype = str(getattr(given.datatype, "value", given.datatype))
        data = getattr(given.data, "root", given.data)
        self.data = data if isinstance(data, list | str | bytes) else list(data) if hasattr(data, "__iter__") else [data]


def placed(answered: dict[str, list[Any]], good: list[int], problems: list[str]) -> dict[str, list[Any]]:
    """Columns of the inputs that were answered, each back in its place; the others have None and their reason."""
    cells: dict[str, list[Any]] = {name: [None] * len(problems) for name in answered}
    for name, column in answered.items():
        for place, value in zip(good, column, strict=True):
            cells[name][place] = value
    told = cells.pop("problem", [None] * len(problems))
    cells.setdefault("prediction", [None] * len(problems))
    return cells | {"problem": [why or told[place] or "" for place, why in enumerate(problems)]}


def probabilities(cells: dict[str, list[Any]], classes: tuple[str, ...]) -> ResponseOutput:
    """[N, T]; NaN for inputs without an answer."""
    size = len(cells["problem"])
    columns = [cells.get(f"p:{name}") or [None] * size for name in classes]
    data = [float("nan") if value is None else value for row in zip(*columns, strict=True) for value in row]
    return ResponseOutput(name="probabilities", datatype=NUMBER, shape=[size, len(classes)], data=data)


def tensor(name: str, column: list[Any], values: bool) -> ResponseOutput:
    """One column as a tensor [N, 1]: numbers with NaN and -1, texts with "" for what is not known."""
    kind = TYPES.get(name, NUMBER if name.startswith("nearest_") or (values and name == "prediction") else TEXT)
    data: list[Any]
    if kind == NUMBER:
        data = [float(value) if isinstance(value, int | float) else float("nan") for value in column]
    elif kind == PLACE:
        data = [int(value) if isinstance(value, int) else -1 for value in column]
    else:
        data = [b"" if value is None else str(value).encode() for value in column]
    parameters = Parameters(content_type="str") if kind == TEXT else None
    called = name if name != "prediction" else "value" if values else "label"
    return ResponseOutput(name=called, datatype=kind, shape=[len(data), 1], data=data, parameters=parameters)


def check_token(variable: str | None, headers: Any) -> None:
    """Raises MLServerError (401) where the environment variable holds a token and the request does not bring it.

    gRPC brings it as metadata ``authorization``; HTTP requests have passed the server's own check before.
    """
    if not variable:
        return
    given = {str(name).lower(): str(value) for name, value in (headers or {}).items()}.get("authorization", "")
    if not right_token(variable, given):
        raise MLServerError("The token is wrong or missing: send the header 'Authorization: Bearer TOKEN'.", 401)
