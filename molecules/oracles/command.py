"""An external program as an oracle: SMILES on its standard input, one a line, JSON on its standard output."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Annotated, Any, ClassVar

from molecules.oracles.base import MAXIMISE
from molecules.oracles.batches import BatchFailed, BatchOracle
from reprogram.errors import ConfigError, SourceError
from reprogram.ranges import Count, Length, NotEmpty, Seconds

UNAVAILABLE = (69, 75)  # sysexits.h


@dataclass
class Command(BatchOracle):
    """Runs ``command`` (no shell) once a batch; it answers ``{"score": […]}`` or REINVENT's ``{"payload": {…}}``.

    A program that fails on every molecule of a batch of eight or more, or ends with code 69 or 75 (``EX_UNAVAILABLE``,
    ``EX_TEMPFAIL``: a licence server is down), ends the run: nothing is charged, and a resumed run asks again.
    """

    command: NotEmpty | Annotated[Sequence[str], Length()]
    key: NotEmpty = "score"
    timeout: Seconds = 600.0
    batch: Count = 100
    direction: str = MAXIMISE
    name: str = ""
    several: ClassVar[int] = 8

    def __post_init__(self) -> None:
        self._words = shlex.split(self.command) if isinstance(self.command, str) else list(self.command)
        if not self._words or which(self._words[0]) is None:
            raise ConfigError(
                f"oracle.command '{self._words[0] if self._words else ''}' is not a program on this machine."
            )
        self.name = self.name or Path(self._words[0]).name

    def ask(self, smiles: list[str]) -> Any:
        try:
            done = subprocess.run(
                self._words, input="\n".join(smiles) + "\n", capture_output=True, text=True, timeout=self.timeout
            )
        except subprocess.TimeoutExpired as error:
            raise BatchFailed(f"{self.name} took longer than {self.timeout:g} s") from error
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            if done.returncode in UNAVAILABLE:
                raise SourceError(
                    f"The oracle {self.name} is not available ({last}). Nothing was charged; resume=true asks again."
                )
            raise BatchFailed(f"{self.name} ended with code {done.returncode}: {last}", outage=True)
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError as error:
            raise BatchFailed(f"{self.name} did not answer in JSON: {done.stdout[:80]!r}", outage=True) from error
