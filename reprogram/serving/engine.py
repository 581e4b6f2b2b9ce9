"""MLServer for the programs below one folder, in a process of its own: what the front passes requests on to.

It answers HTTP at a socket that only the front opens, gRPC and metrics at their own ports. Where it was forked from a process
that has everything imported (:mod:`reprogram.serving.starter`), it is ready in a second or two.
"""

from __future__ import annotations

import asyncio
import os
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

    async def when_ready(self, loaded: Callable[[], None]) -> None:
        """Calls ``loaded`` once every program answers."""
        while not self._model_registry._models or not await self._data_plane.ready():
            await asyncio.sleep(0.1)
        loaded()

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


async def serve(folder: Path, socket: str, loaded: Callable[[], None]) -> None:
    """Until a signal comes. socket: where HTTP is answered. loaded: called once when the programs have been loaded."""
    guard = guard_settings(folder)
    settings, models = await load_settings(str(folder))
    settings.host = os.environ.get("MLSERVER_HOST", settings.host)
    settings.parallel_workers = 0  # the front starts this process again, which the engine's own workers do not survive
    settings.grpc_max_message_length = guard.body_mb << 20
    settings._custom_rest_server_settings = {"uds": socket, "timeout_keep_alive": KEPT_OPEN}
    with tempfile.TemporaryDirectory(prefix="serving_") as scratch:
        settings.metrics_dir, settings.environments_dir = f"{scratch}/metrics", f"{scratch}/environments"
        engine = Engine(settings, guard)
        begun = asyncio.ensure_future(engine.start(models))
        await asyncio.wait({begun, asyncio.create_task(engine.when_ready(loaded))}, return_when=asyncio.FIRST_COMPLETED)
        await begun
