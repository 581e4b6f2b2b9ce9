"""An HTTP endpoint as an oracle: posts ``{"smiles": […]}``, reads ``{"score": […]}``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from molecules.oracles.base import MAXIMISE
from molecules.oracles.batches import BatchFailed, BatchOracle
from reprogram.errors import ConfigError
from reprogram.ranges import Count, NotEmpty, Range, Seconds
from reprogram.redact import conceal, redact
from reprogram.service import Service, StatusError, Unavailable

OF_MOLECULES = (400, 413, 422)  # statuses that are about what was sent; any other refusal is the service's own trouble
CRASHED = 500  # a molecule may do that to a service, and so may anything else
PAUSE = 0.5  # seconds before the first retry, doubled each time


@dataclass
class Http(BatchOracle):
    """One POST a batch.

    A service that cannot be reached, is overloaded or refuses the token ends the run: its molecules are not charged, and a
    resumed run asks again. The same where a whole batch of several molecules has no answer. token_env, header, scheme,
    verify, timeout, retries: :class:`reprogram.service.Service`'s.
    """

    url: NotEmpty
    key: NotEmpty = "score"
    timeout: Seconds = 60.0
    batch: Count = 100
    retries: Annotated[int, Range(0, 1000)] = 3
    direction: str = MAXIMISE
    name: str = ""
    token_env: str | None = None
    header: str = "Authorization"
    scheme: str = "Bearer"
    verify: str | None = None

    def __post_init__(self) -> None:
        self.url = conceal(self.url)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"oracle.url is '{redact(self.url)}'; it must start with http:// or https://.")
        self.name = self.name or parts.netloc.rpartition("@")[2]
        self._service: Service | None = None

    def ask(self, smiles: list[str]) -> Any:
        if self._service is None:
            sent = {"token_env": self.token_env, "header": self.header, "scheme": self.scheme, "verify": self.verify}
            patience = {"timeout": self.timeout, "retries": self.retries, "pause": PAUSE}
            self._service = Service(self.url, "oracle", **sent, **patience, environment=True)  # type: ignore[arg-type]
        try:
            answer = self._service.send("POST", body=json.dumps({"smiles": smiles}).encode())
        except StatusError as error:
            if error.status not in OF_MOLECULES:
                raise
            raise BatchFailed(str(error).rstrip(".")) from error
        except Unavailable as error:
            if error.status != CRASHED and not error.silent:
                raise
            raise BatchFailed(str(error).rstrip("."), outage=True) from error
        found = answer.json()
        if found is None:
            raise BatchFailed(f"{self.name} did not answer in JSON")
        return found
