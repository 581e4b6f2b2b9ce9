"""Errors that a user can act on: one sentence that names the key, file or row, what was found, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class ReprogramError(Exception):
    """A mistake in configuration or data. The command line prints its one sentence and exits with ``exit_code``."""

    exit_code = 2

    def __str__(self) -> str:
        return super().__str__().replace("'?.", "'?")  # a question from :func:`nearest` ends its sentence


class ConfigError(ReprogramError):
    """An option has a value that it cannot have."""


class DataError(ReprogramError):
    """A file, row, column or label is not what the target needs."""


class SourceError(ReprogramError):
    """A source model cannot be loaded or does not answer as it should."""


class ArtifactError(ReprogramError):
    """A saved program cannot be read, or belongs to another source."""


class BudgetSpent(ReprogramError):
    """A ledger's hard limit is reached; what was found so far is kept.

    answers: what the request that hit the limit could still pay for, in its order, None for the rest.
    """

    def __init__(self, message: str, answers: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.answers = list(answers)


class Interrupted(ReprogramError):
    """The user stopped the run; the sentence says how to go on."""

    exit_code = 130


def nearest(name: str, allowed: Iterable[str], shown: int = 12) -> str:
    """``"did you mean 'x'?"`` or the list of what is allowed, for the end of an error sentence."""
    allowed = sorted(set(allowed))
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    listed = ", ".join(allowed[:shown]) + (", …" if len(allowed) > shown else "")
    return f"allowed: {listed}"
