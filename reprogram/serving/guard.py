"""What stands before MLServer's HTTP server: which paths there are, who may ask, how much, and how errors look.

The engine makes a counter for every path and model name that is asked for, unpacks whatever a compressed body expands to, and
has no token. All of that ends here, before the engine sees the request.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from reprogram.errors import ConfigError
from reprogram.files import read_json
from reprogram.serving.token import right_token

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATIENCE = 4  # times the largest body that is read, to tell a client that it sends too much
LARGEST = 1 << 20  # bytes of settings.json
HEALTH = re.compile(r"/v2/health/(live|ready)")
MODEL = re.compile(r"/v2/models/([^/]{1,200})(/ready|/infer)?")
ADMIN = re.compile(r"/v2|/v2/repository/index|/v2/repository/models/([^/]{1,200})/(load|unload)")
PAGE = {"/": ("index.html", "text/html"), "/page.js": ("page.js", "text/javascript"), "/page.css": ("page.css", "text/css")}
SAFE = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; media-src blob:; frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


@dataclass
class GuardSettings:
    """``reprogram`` in settings.json. token_env: environment variable with the token that clients send. body_mb: largest body.
    waiting: requests that are answered at a time; memory_mb: of their bodies. seconds: to send a body. page: for people.
    spare: engines are forked from a process that stays, with everything imported."""

    token_env: str | None = None
    body_mb: int = 64
    waiting: int = 256
    memory_mb: int = 512
    seconds: float = 30.0
    page: bool = True
    spare: bool = True


class Refusal(Exception):
    """Ends a request with a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """ASGI middleware. models(): names that are served. answering(): does the engine answer at the moment?"""

    def __init__(
        self, app: Any, settings: GuardSettings, models: Callable[[], set[str]], answering: Callable[[], bool]
    ) -> None:
        self.app, self.settings, self.models, self.answering = app, settings, models, answering
        self.requests = self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun = False

        async def telling(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._answer(scope, receive, telling)
        except Refusal as error:
            await respond(send, error.status, {"error": str(error)})
        except Exception as error:
            if begun:
                raise
            if not self.answering():
                await respond(send, 503, {"error": RESTARTING})
            else:
                await respond(send, 500, {"error": f"The server failed ({type(error).__name__})."})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path in PAGE and self.settings.page and scope["method"] in ("GET", "HEAD"):
            await self._page(path, send)
            return
        health = HEALTH.fullmatch(path)
        if not health:
            self._allowed(scope, path)
        if path.endswith(("/ready", "/infer")) and not self.answering():
            raise Refusal(503, RESTARTING)
        if self.requests >= self.settings.waiting and not health:
            raise Refusal(503, "The server is busy; send the request again in a moment.")
        self.requests += 1
        size = 0
        try:
            body = await self._body(scope, receive)
            size = len(body)
            self.held += size
            if self.held > self.settings.memory_mb << 20 and self.held > size:
                raise Refusal(503, "The server is busy; send the request again in a moment.")
            await self.app(self._plain(scope, size), replayed(body, receive), send)
        finally:
            self.requests -= 1
            self.held -= size

    def _allowed(self, scope: Scope, path: str) -> None:
        model, admin = MODEL.fullmatch(path), ADMIN.fullmatch(path)
        if not model and not admin:
            raise Refusal(404, "There is nothing at this path; models are below /v2/models/NAME.")
        if self.settings.token_env and not right_token(self.settings.token_env, header(scope, b"authorization")):
            raise Refusal(401, "The token is wrong or missing: send the header 'Authorization: Bearer TOKEN'.")
        name = (model or admin)[1]  # type: ignore[index]
        if name and name not in self.models():
            raise Refusal(404, f"There is no model '{name}'.")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body, unpacked, in bounds."""
        most = self.settings.body_mb << 20
        packed = header(scope, b"content-encoding").lower()
        if packed not in ("", "identity", "gzip"):
            raise Refusal(415, "A body may be compressed by gzip, or not at all.")
        if header(scope, b"inference-header-content-length"):
            raise Refusal(415, "Tensors are read as JSON, not as binary data: with tritonclient, binary_data=False.")
        unpack = zlib.decompressobj(wbits=31) if packed == "gzip" else None
        body, came, more = bytearray(), 0, True
        try:
            async with asyncio.timeout(self.settings.seconds):
                while more and came <= PATIENCE * most:  # a little more is read, because nobody listens while sending
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Refusal(400, "The request was broken off.")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    came += len(part)
                    if len(body) <= most:
                        body += unpack.decompress(part, most + 1 - len(body)) if unpack else part
        except TimeoutError:
            raise Refusal(408, f"The request did not arrive within {self.settings.seconds:g} seconds.") from None
        except zlib.error:
            raise Refusal(400, "The body is not gzip data.") from None
        if len(body) > most:
            raise Refusal(413, f"A request may have {self.settings.body_mb} MB.")
        return bytes(body)

    def _plain(self, scope: Scope, size: int) -> Scope:
        """The scope of the body as it is now."""
        gone = (b"content-encoding", b"content-length", b"content-type", b"transfer-encoding")
        headers = [pair for pair in scope["headers"] if pair[0] not in gone]
        own = [(b"content-length", str(size).encode()), (b"content-type", b"application/json")]  # as the protocol says
        return {**scope, "headers": [*headers, *own]}

    async def _page(self, path: str, send: Send) -> None:
        name, kind = PAGE[path]
        data = files("reprogram.serving").joinpath("page", name).read_bytes()
        headers = [(b"content-type", f"{kind}; charset=utf-8".encode()), (b"content-length", str(len(data)).encode()), *SAFE]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})


RESTARTING = "The engine is starting; send the request again in a few seconds."


def settings_file(folder: Path) -> dict[str, Any]:
    """``settings.json``. Raises ConfigError."""
    data: Any = read_json(folder / "settings.json", LARGEST, ConfigError)
    if not isinstance(data, dict):
        raise ConfigError(f"{folder / 'settings.json'} is no object; task=serve export={folder} writes one.")
    return data


def guard_settings(folder: Path) -> GuardSettings:
    """Its part ``reprogram``. Raises ConfigError."""
    given, known = settings_file(folder).get("reprogram") or {}, GuardSettings.__dataclass_fields__
    if not isinstance(given, dict) or not set(given) <= set(known):
        raise ConfigError(f"{folder / 'settings.json'}: 'reprogram' may have {', '.join(known)}.")
    found = GuardSettings(**given)
    if found.token_env and not os.environ.get(found.token_env):
        raise ConfigError(f"token_env={found.token_env}, but that environment variable is not set.")
    return found


def header(scope: Scope, name: bytes) -> str:
    """The value of a header, or an empty text."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` that brings the whole body at once, then what comes after it."""
    sent = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def respond(send: Send, status: int, content: dict[str, Any]) -> None:
    """A small JSON answer."""
    data = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
