"""The one HTTP client: asks a service with a token, a deadline, one policy of retries, and a limit on what comes back.

Every failure is one sentence without the token. Needs the extra ``blackbox`` (httpx, tenacity).
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import logging
import os
import ssl
import threading
import time
from collections.abc import Container, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from reprogram.errors import ConfigError, SourceError
from reprogram.redact import conceal, hide, redact, reveal

AGAIN = (429, 500, 502, 503, 504)  # statuses after which a request is sent again
UNKNOWN = (504,)  # the model behind a gateway may have answered, and billed, all the same
DENIED = {401: "the token is wrong or missing", 403: "the token is not allowed to use this model"}
LONGEST_WAIT = 30.0  # seconds between two tries
LARGEST = 64 << 20  # bytes of an answer, where the caller knows no better


class Meter(Protocol):
    """Who counts attempts: :class:`reprogram.ledger.Charge`."""

    def sending(self) -> None: ...

    def not_billed(self) -> None: ...

    def replied(self) -> None: ...


class Free:
    """Nobody counts."""

    def sending(self) -> None: ...

    def not_billed(self) -> None: ...

    def replied(self) -> None: ...


@dataclass(frozen=True)
class ServiceReply:
    """A whole answer. status, kind (its media type), body."""

    status: int
    kind: str
    body: bytes

    def json(self) -> Any:
        """The parsed body, None where it is not JSON. NaN and Infinity, which Python servers write, are read."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def said(self) -> str:
        """The service's own words, cut short."""
        return redact(" ".join(self.body[:2000].decode("utf-8", "replace").split()))[:200] or "no reason given"


class StatusError(SourceError):
    """The service refused a request and will refuse it again; it bills nothing for that."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unavailable(SourceError):
    """No answer after all attempts. status: of the last one, None where it was silent or could not be reached; silent: it
    was reached and took too long."""

    def __init__(self, message: str, status: int | None = None, silent: bool = False) -> None:
        super().__init__(message)
        self.status, self.silent = status, silent


class _Again(Exception):
    """An attempt that may be repeated; its text goes into the sentence of the last one."""

    def __init__(self, problem: str, wait: float | None = None, status: int | None = None, silent: bool = False) -> None:
        super().__init__(problem)
        self.wait, self.status, self.silent = wait, status, silent


@dataclass
class Service:
    """One service at ``address``, whose user, password and query values are used and never shown.

    where: the part of the configuration that options are named by in messages. token_env: name of the environment
    variable that holds the token, read when a request is sent; header, scheme: sent as ``header: scheme TOKEN`` (scheme
    ``Basic`` with a token ``user:password`` is encoded). verify: a file with the certificate authorities to trust, None
    for the public ones. timeout: seconds for an attempt as a whole, from the connection to the last byte. retries:
    attempts after the first, when the service is busy, fails, is silent or cannot be reached. pause: seconds before
    the first of them, doubled each time and spread at random; ``Retry-After`` is obeyed, up to 30 s.
    """

    address: str
    where: str = "source"
    token_env: str | None = None
    header: str = "Authorization"
    scheme: str = "Bearer"
    verify: str | None = None
    timeout: float = 30.0
    retries: int = 5
    pause: float = 0.5
    environment: bool = False  # may the system's proxy settings decide the way?

    def __post_init__(self) -> None:
        self.address = conceal(self.address)
        if not self.address.startswith(("http://", "https://")):
            raise ConfigError(f"{self.where}.url={redact(self.address)} must start with http:// or https://.")
        if not self.timeout > 0:
            raise ConfigError(f"{self.where}.timeout={self.timeout} must be more than 0 seconds.")
        if self.token_env and not os.environ.get(self.token_env):
            raise ConfigError(f"{self.where}.token_env={self.token_env}, but that environment variable is not set.")
        self._trust = _trust(self.address, self.verify, self.where)
        self._clients: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def send(
        self,
        method: str,
        path: str = "",
        body: bytes | None = None,
        meter: Meter | None = None,
        accepted: Container[int] = (200,),
        largest: int = LARGEST,
    ) -> ServiceReply:
        """The service's whole answer, after as many attempts as it takes. Raises SourceError (StatusError for a refusal).

        meter: told of each attempt before it is sent, and when it cannot have been billed. Redirects are not followed:
        the token is for this address.
        """
        import tenacity

        meter = meter or Free()
        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.retries + 1),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(_Again),
            reraise=True,
        )
        try:
            return again(self._attempt, method, path, body, meter, accepted, largest)
        except _Again as error:
            tries = f"(tries: {self.retries + 1}); earlier answers are kept."
            raise Unavailable(f"{self.address} {error} {tries}", error.status, error.silent) from None

    def _wait(self, state: Any) -> float:
        """Seconds: doubled each time, with some added at random so that clients do not return in step."""
        import tenacity

        wanted = state.outcome.exception().wait
        if wanted is not None:
            return min(wanted, LONGEST_WAIT)
        return tenacity.wait_exponential_jitter(self.pause, LONGEST_WAIT, jitter=self.pause / 2)(state)

    def _attempt(
        self, method: str, path: str, body: bytes | None, meter: Meter, accepted: Container[int], largest: int
    ) -> ServiceReply:
        import httpx

        meter.sending()
        seen: dict[str, Any] = {}
        try:
            answer = _wait_for(self._exchange(method, path, body, largest, seen))
        except (TimeoutError, httpx.TimeoutException):
            self._judge(seen, meter)
            raise _Again(f"did not answer within {self.timeout:g} s", silent=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            self._judge(seen, meter)
            untrusted = _untrusted(error)
            if untrusted:
                raise SourceError(
                    f"{self.address} has a certificate that is not trusted ({untrusted}); give the authority's file as "
                    f"{self.where}.verify=FILE."
                ) from None
            name = type(error).__name__
            raise _Again(f"broke off its answer ({name})" if "status" in seen else f"cannot be reached ({name})") from None
        if answer is None:
            meter.replied()
            raise SourceError(f"{self.address} answered {path} with more than {largest:,} bytes.")
        if answer.status in accepted:
            meter.replied()
            return answer
        self._refuse(answer, path, seen["retry after"], meter)
        raise AssertionError

    def _judge(self, seen: dict[str, Any], meter: Meter) -> None:
        """An attempt without an answer: not billed when it never left as a whole, or was refused by its status."""
        status = seen.get("status", 200)
        if not seen.get("left") or (status >= 300 and status not in UNKNOWN):
            meter.not_billed()

    def _refuse(self, answer: ServiceReply, path: str, wait: float | None, meter: Meter) -> None:
        if answer.status not in UNKNOWN:
            meter.not_billed()
        if answer.status in DENIED:
            reason = f"{DENIED[answer.status]} ({self.where}.token_env={self.token_env})"
            raise SourceError(f"{self.address} refused with {answer.status}: {reason}.")
        problem = f"answered {path} with status {answer.status}".replace("  ", " ")
        if answer.status not in AGAIN:
            raise StatusError(answer.status, f"{self.address} {problem}: {answer.said()}")
        raise _Again(problem, wait, answer.status)

    async def _exchange(
        self, method: str, path: str, body: bytes | None, largest: int, seen: dict[str, Any]
    ) -> ServiceReply | None:
        """One attempt, within the deadline; None for an answer that is too large."""

        async def trace(event: str, _: Any) -> None:
            if event.endswith("send_request_body.started"):
                seen["left"] = True

        async with asyncio.timeout(self.timeout):
            request = self._client().stream(
                method, self._url(path), content=body, headers=self._headers(), extensions={"trace": trace}
            )
            async with request as reply:
                seen["status"] = reply.status_code
                seen["retry after"] = _seconds(reply.headers.get("Retry-After"))
                parts, size = [], 0
                async for part in reply.aiter_raw():
                    size += len(part)
                    if size > largest:
                        return None
                    parts.append(part)
                kind = reply.headers.get("Content-Type", "").split(";")[0]
                return ServiceReply(reply.status_code, kind, b"".join(parts))

    def _url(self, path: str) -> str:
        address, question, query = reveal(self.address).partition("?")
        return (address.rstrip("/") + path if path else address) + question + query

    def _headers(self) -> dict[str, str]:
        sent = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        token = os.environ.get(self.token_env, "") if self.token_env else ""
        if not token:
            return sent
        hide(token)
        if self.scheme == "Basic" and ":" in token:
            token = base64.b64encode(token.encode()).decode()
            hide(token)
        return sent | {self.header: f"{self.scheme} {token}".strip()}

    def _client(self) -> Any:
        """This process's client: connections do not survive a fork."""
        import httpx

        if os.getpid() not in self._clients:
            logging.getLogger("httpx").addFilter(_quiet)
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            self._clients[os.getpid()] = httpx.AsyncClient(
                timeout=self.timeout, limits=limits, trust_env=self.environment, verify=self._trust
            )
        return self._clients[os.getpid()]


def _quiet(record: logging.LogRecord) -> bool:
    """httpx logs whole addresses."""
    record.msg, record.args = redact(record.getMessage()), ()
    return True


_loops: dict[int, asyncio.AbstractEventLoop] = {}
_starting = threading.Lock()


def _wait_for(work: Coroutine[Any, Any, Any]) -> Any:
    """Run in this process's loop, which a thread of its own keeps going: a deadline there ends whatever hangs."""
    with _starting:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, daemon=True, name="service").start()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def needed(*packages: str, where: str = "source") -> None:
    """ConfigError that names the extra where a package of it is missing."""
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConfigError(f"This {where} needs {' and '.join(missing)}: pip install 'reprogram[blackbox]'.")


def _trust(address: str, file: str | None, where: str) -> ssl.SSLContext:
    """Public certificate authorities, or those of a file; none at all for an address without encryption."""
    needed("httpx", "tenacity", where=where)
    import httpx

    if file is None:
        plain = address.startswith("http://")
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, FileNotFoundError) else "no certificates in PEM format are in it"
        raise ConfigError(f"{where}.verify={file} cannot be read: {why}.") from error


def _untrusted(error: BaseException | None) -> str:
    """Why a certificate was refused, "" where that is not what went wrong."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return str(error.verify_message)
        error = error.__cause__ or error.__context__
    return ""


def _seconds(wanted: str | None) -> float | None:
    """A ``Retry-After``, which is a number of seconds or a date."""
    if wanted is None:
        return None
    if wanted.strip().isdigit():
        return float(wanted)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(wanted).timestamp() - time.time())
    except ValueError:
        return None
