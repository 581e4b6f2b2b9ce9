"""An HTTP endpoint as an oracle: posts ``{"smiles": […]}``, reads ``{"score": […]}``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from molecules.oracles.base import MAXIMISE
from molecules.oracles.batches import BatchFailed, BatchOracle
from reprogram.errors import ConfigError
from reprogram.ranges import Count, NotEmpty, Range, Seconds

PAUSE = 0.5  # seconds before the first retry, doubled each time


@dataclass
class Http(BatchOracle):
    """One POST a batch; connection errors and answers 429 and 5xx are tried again."""

    url: NotEmpty
    key: NotEmpty = "score"
    timeout: Seconds = 60.0
    batch: Count = 100
    retries: Annotated[int, Range(0, 1000)] = 3
    direction: str = MAXIMISE
    name: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"oracle.url is '{self.url}'; it must start with http:// or https://.")
        self.name = self.name or parts.netloc

    def ask(self, smiles: list[str]) -> Any:
        import httpx

        problem = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                answer = httpx.post(self.url, json={"smiles": smiles}, timeout=self.timeout)
            except httpx.HTTPError as error:
                problem = f"{self.name}: {type(error).__name__}"
                continue
            if answer.status_code == 429 or answer.status_code >= 500:
                problem = f"{self.name} answered {answer.status_code}"
                continue
            if answer.status_code >= 400:
                raise BatchFailed(f"{self.name} answered {answer.status_code}")
            try:
                return answer.json()
            except json.JSONDecodeError as error:
                raise BatchFailed(f"{self.name} did not answer in JSON") from error
        raise BatchFailed(problem)
