"""What comes of calls: answers, failures with their reasons, and the keys that make two inputs the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Chunk = list[tuple[str, Any]]  # keys and items that are sent together


@dataclass
class Failed:
    """An item without an answer, and why."""

    reason: str


class Refused(Exception):
    """The service refused these items and billed nothing for them; its text says why."""


@dataclass
class Reply:
    """What came of a request: the items that have an outcome, the attempts that were answered, and what ended it."""

    chunk: Chunk = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    sends: list[int] = field(default_factory=list)
    error: BaseException | None = None


def reason(error: Exception) -> str:
    """Why a call has no answer, in words."""
    return str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}".rstrip(": ")


def checked(answer: Any) -> Any:
    """An exception, NaN or infinity as ``Failed``; everything else as it is."""
    if isinstance(answer, Exception):
        return Failed(reason(answer))
    values = answer.values() if isinstance(answer, Mapping) else [answer]
    for value in values:
        if isinstance(value, float | np.floating | np.ndarray) and not np.isfinite(value).all():
            return Failed(f"the answer is {'NaN' if np.isnan(value).any() else 'infinite'}")
    return answer


def content_key(array: Any) -> str:
    """SHA-256 of an array's type, shape and bytes: the key of an image."""
    raw = np.ascontiguousarray(array)
    return hashlib.sha256(f"{raw.dtype}{raw.shape}".encode() + raw.tobytes()).hexdigest()
