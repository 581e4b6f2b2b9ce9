"""The process that clients talk to: it guards, passes requests on to the engine, and starts the engine again when it dies.

No model is in it. Whatever happens to the engine, a client gets an answer or an error with a status: its request is never
answered by half, and the next ones wait a few seconds at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.config
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from reprogram import machine
from reprogram.serving.guard import Guard, GuardSettings, Receive, Refusal, Scope, Send, guard_settings, settings_file
from reprogram.serving.starter import leave_with_the_parent

log = logging.getLogger("reprogram.serving")
GIVE_UP = 3  # starts in a row that never became ready
STARTING = 600.0  # seconds that a start may take
SILENT = 60.0  # seconds without an answer to a sign of life after which the engine is ended
PARTING = 20.0  # seconds to answer what is being answered
LONGEST = 600.0  # seconds of one request
OWN_HEADERS = ("connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade", "te", "trailer")


class EngineProcess:
    """The engine for ``folder``, kept alive. ready: it answers now. spare: engines are forked from a process that has imported
    everything (:mod:`reprogram.serving.starter`); imports are most of the time that a start takes."""

    def __init__(self, folder: Path, socket: Path, spare: bool = True) -> None:
        self.folder, self.socket, self.spare = folder, socket, spare and sys.platform == "linux"
        self.ready, self.starts, self.failed = False, 0, False
        self.engine: int | None = None  # process id
        self._starter: asyncio.subprocess.Process | None = None
        self._told: asyncio.StreamReader | None = None
        self._session: aiohttp.ClientSession | None = None

    async def _new_starter(self) -> asyncio.subprocess.Process:
        """A process that imports, and starts an engine for each line it gets; what it tells comes by ``_told``."""
        ours, its = os.pipe()
        command = [sys.executable, "-m", "reprogram.serving", str(self.folder), str(self.socket), str(its)]
        own = {"MALLOC_ARENA_MAX": "2", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # few heaps; imports that leave CUDA alone
        try:
            process = await asyncio.create_subprocess_exec(
                *[*command, "yes" if self.spare else "no"],
                stdin=asyncio.subprocess.PIPE, env=own | os.environ, pass_fds=(its,), preexec_fn=leave_with_the_parent,
            )  # fmt: skip
        finally:
            os.close(its)
        self._told = asyncio.StreamReader()
        told = self._told
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(told), os.fdopen(ours, "rb", buffering=0)
        )
        return process

    async def _run(self) -> str:
        """One engine, from its start to its end; returns what is told of the end."""
        self.socket.unlink(missing_ok=True)
        if self._starter is None or self._starter.returncode is not None:
            self._starter = await self._new_starter()
        assert self._starter.stdin is not None and self._told is not None
        with contextlib.suppress(ConnectionError):  # it is dead already, and the end of what it tells says so
            self._starter.stdin.write(b"start\n")
            await self._starter.stdin.drain()
        self.starts += 1
        while line := (await self._told.readline()).decode():
            what, number = line.split()
            if what == "ended":
                return number
            self.engine = int(number)
        return str(await self._starter.wait())

    async def keep_alive(self, address: str) -> None:
        """Start it, and again whenever it ends; returns where it never becomes ready."""
        without = 0
        while without < GIVE_UP:
            watch = asyncio.create_task(self._watch(address))
            code = await self._run()
            watch.cancel()
            without = 0 if self.ready else without + 1
            self.ready, self.engine = False, None
            log.error("the engine ended", extra={"fields": {"code": code, "starts": self.starts}})
        self.failed = True

    async def _watch(self, address: str) -> None:
        """Ready once every model is; ended when it is silent."""
        heard, limit = time.monotonic(), STARTING
        while True:
            await asyncio.sleep(0.1 if not self.ready else 1.0)
            try:
                path = "/v2/health/live" if self.ready else "/v2/health/ready"
                status = (await self.pass_on("GET", path, {}, b"", SILENT / 2))[0]
            except (aiohttp.ClientError, OSError, TimeoutError):
                status = 0
            if status == 200:
                heard, limit = time.monotonic(), SILENT
                if not self.ready:
                    self.ready = True
                    log.info("ready", extra={"fields": {"address": address, "starts": self.starts}})
            elif time.monotonic() - heard > limit:
                self._signal(machine.KILL)

    async def pass_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes, seconds: float = LONGEST
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """(status, headers, body) of the engine's answer. Raises aiohttp's errors."""
        if self._session is None:
            connector = aiohttp.UnixConnector(str(self.socket), limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        limit = aiohttp.ClientTimeout(total=seconds)
        async with self._session.request(method, f"http://engine{path}", data=body, headers=headers, timeout=limit) as reply:
            data = await reply.read()
            kept = [(k.lower().encode(), v.encode()) for k, v in reply.headers.items() if k.lower() not in OWN_HEADERS]
            return reply.status, [*kept, (b"content-length", str(len(data)).encode())], data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request, passed on."""
        if scope["path"] == "/v2/health/live":
            status, headers, data = 200, [(b"content-length", b"0")], b""
        else:
            message = await receive()
            given = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            given = {name: value for name, value in given.items() if name not in OWN_HEADERS}
            try:
                path = scope["raw_path"].decode("ascii")
                status, headers, data = await self.pass_on(scope["method"], path, given, message.get("body", b""))
            except (aiohttp.ClientError, OSError):
                raise Refusal(503, "The engine stopped while it was answering; send the request again.") from None
            except TimeoutError:
                raise Refusal(504, f"There was no answer within {LONGEST:g} seconds.") from None
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    def _signal(self, number: int) -> None:
        if self.engine is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.engine, number)

    async def end(self) -> None:
        """Let it finish what it is answering, then no more."""
        if self._session is not None:
            await self._session.close()
        if self._starter is None or self._starter.returncode is not None:
            return
        assert self._starter.stdin is not None
        self._starter.stdin.close()  # no more engines
        self._signal(signal.SIGTERM) if self.engine else self._starter.kill()
        try:
            await asyncio.wait_for(self._starter.wait(), PARTING)
        except TimeoutError:
            self._starter.kill()  # and the engine with it
            await self._starter.wait()


def served(folder: Path) -> Callable[[], set[str]]:
    """Names of the models below ``folder``, as of a second ago at most."""
    seen: list[Any] = [0.0, set()]

    def names() -> set[str]:
        if time.monotonic() - seen[0] > 1.0:
            seen[:] = [time.monotonic(), {file.parent.name for file in folder.glob("*/model-settings.json")}]
        return set(seen[1])

    return names


@contextlib.asynccontextmanager
async def running(engine: EngineProcess, address: str, failed: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """The engine is kept alive inside; ``failed`` is called where it cannot be."""

    async def keep() -> None:
        await engine.keep_alive(address)
        await failed()

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        await engine.end()


async def serve(folder: Path, guard: GuardSettings) -> bool:
    """Until a signal comes. False where the engine never became ready."""
    settings = settings_file(folder)
    host, port = os.environ.get("MLSERVER_HOST") or settings.get("host", "127.0.0.1"), settings.get("http_port", 8080)
    with tempfile.TemporaryDirectory(prefix="engine_") as scratch:
        engine = EngineProcess(folder, Path(scratch) / "http", guard.spare)
        app = Guard(engine, guard, served(folder), lambda: engine.ready)
        config = uvicorn.Config(
            app, host, port, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=int(PARTING)
        )
        server = uvicorn.Server(config)

        async def failed() -> None:
            server.should_exit = True

        async with running(engine, f"http://{host}:{port}", failed):
            await server.serve()
        return not engine.failed


def main(folder: str) -> None:
    """``python -m reprogram.serving FOLDER``."""
    from reprogram.errors import ConfigError

    try:
        guard = guard_settings(Path(folder))
        if logging_settings := settings_file(Path(folder)).get("logging_settings"):
            logging.config.dictConfig(logging_settings)
        ready = asyncio.run(serve(Path(folder), guard))
    except ConfigError as error:
        raise SystemExit(f"error: {error}") from None
    if not ready:
        raise SystemExit("error: The engine did not become ready; the lines above say why.")
