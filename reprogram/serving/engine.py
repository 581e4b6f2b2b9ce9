"""MLServer for the programs below one folder, in a process of its own: what the front passes requests on to.

It answers HTTP at a socket that only the front opens, gRPC and metrics at their own ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from mlserver import MLServer
from mlserver.cli.serve import load_settings
from mlserver.errors import MLServerError, ModelNotFound

from reprogram.serving.guard import GuardSettings, guard_settings
from reprogram.serving.runtime import check_token

KEPT_OPEN = 3600  # seconds that a connection of the front may be idle


class Engine(MLServer):
    """MLServer with checks that its gRPC server needs, and errors that do not repeat the request."""

    def __init__(self, settings: Any, guard: GuardSettings) -> None:
        self.guard = guard
        super().__init__(settings)

    def _create_servers(self) -> None:
        self._only_known_models()
        super()._create_servers()
        self._rest_server._app.add_exception_handler(RequestValidationError, not_the_protocol)
        if self.guard.token_env:  # the protocol has no place for it in these calls over gRPC; HTTP has a header
            handlers = self._grpc_server._model_repository_handlers = Unchangeable()
            handlers.index = self._model_repository_handlers.index  # type: ignore[attr-defined]

    def _only_known_models(self) -> None:
        """The engine makes a counter for every name and version that is asked for, and keeps it for ever."""
        plane: Any = self._data_plane

        def checked(method: Callable[..., Any]) -> Callable[..., Any]:
            async def only(payload: Any, name: str, version: str | None = None) -> Any:
                if name not in self._model_registry._models or version:
                    raise ModelNotFound(name[:80], version and version[:80])
                check_token(self.guard.token_env, payload.parameters.headers if payload.parameters else None)
                return await method(payload, name, None)

            return only

        plane.infer = checked(plane.infer)
        plane.infer_stream = refused_stream


class Unchangeable:
    """The repository over gRPC of a server with a token: models are loaded and unloaded over HTTP."""

    async def load(self, name: str) -> bool:
        """Always refused."""
        raise MLServerError("Load and unload models over HTTP, with the token.", 403)

    unload = load


async def refused_stream(payloads: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
    """A program answers whole requests."""
    if payloads is not None:
        raise MLServerError("A program answers whole requests; use infer.", 501)
    yield payloads


async def not_the_protocol(request: Request, error: Any) -> JSONResponse:
    """A body that is no request of the protocol: where it is wrong, without what it holds."""
    first = (error.errors() or [{}])[0]
    where = ".".join(str(part)[:40] for part in first.get("loc", ())[1:])
    why = f"{where or 'body'}: {first.get('type', 'wrong')}"
    return JSONResponse({"error": f"The body is no request of the protocol ({why})."}, 400)


def import_what_is_served(folder: Path) -> None:
    """Everything that loading the programs needs; a program that cannot be read is told of when it is loaded."""
    from reprogram.artifact import describe_program
    from reprogram.interfaces import SourceModel
    from reprogram.registry import find

    for file in folder.glob("*/model-settings.json"):
        with contextlib.suppress(Exception):
            place = Path(json.loads(file.read_text())["parameters"]["uri"])
            described = describe_program(file.parent / place)
            find("reprogram.sources", described["source"]["loader"], SourceModel)
            for part in ("input", "output"):
                find(f"reprogram.{part}s", described[part]["name"], object)
            if described["source"]["options"].get("name"):  # of a model that transformers loads
                importlib.import_module("transformers.modeling_utils")
    import torch

    torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8))  # what torch makes at its first pass


async def serve(folder: Path, socket: str) -> None:
    """Until a signal comes. socket: where HTTP is answered."""
    guard = guard_settings(folder)
    settings, models = await load_settings(str(folder))
    settings.host = os.environ.get("MLSERVER_HOST", settings.host)
    settings.parallel_workers = 0  # the front starts this process again, which the engine's own workers do not survive
    settings.grpc_max_message_length = guard.body_mb << 20
    settings._custom_rest_server_settings = {"uds": socket, "timeout_keep_alive": KEPT_OPEN}
    with tempfile.TemporaryDirectory(prefix="serving_") as scratch:
        settings.metrics_dir, settings.environments_dir = f"{scratch}/metrics", f"{scratch}/environments"
        await Engine(settings, guard).start(models)


def main(folder: str, socket: str) -> None:
    """``python -m reprogram.serving FOLDER SOCKET``, as the front starts it: import, wait for a line, load and serve."""
    import_what_is_served(Path(folder))
    if not sys.stdin.readline():
        return  # the front is gone
    from reprogram.malloc_tuning import keep_freed_memory

    keep_freed_memory()
    asyncio.run(serve(Path(folder), socket))
