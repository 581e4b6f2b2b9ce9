"""What a request may ask for beside the plain answer, and what one request may bring: both checked before any work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from reprogram.errors import ReprogramError, nearest
from reprogram.ranges import Count, Positive, PositiveShare, Range, Seed
from reprogram.typecheck import refusal, signature

MOST_VOTES = 100
OFF = ("", "none", "null")


class RefusedRequest(ReprogramError):
    """The request as a whole cannot be answered. ``status`` is the HTTP status that tells the client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Of one request, and of what may wait. items: inputs. megabytes: of an encoded picture. megapixels: that it may
    claim. characters: of a string. samples: passes of all its certificates together. waiting: inputs in the queue."""

    items: Count = 1024
    megabytes: Annotated[int, Range(1, 1024)] = 16
    megapixels: Annotated[int, Range(1, 128)] = 16
    characters: Count = 20_000
    samples: Count = 100_000
    waiting: Count = 4096

    @property
    def bytes(self) -> int:
        """Of an encoded picture."""
        return self.megabytes << 20

    @property
    def pixels(self) -> int:
        """That a picture may claim."""
        return self.megapixels * 1_000_000


@dataclass(frozen=True)
class Wishes:
    """Parameters of a request; the defaults are the model's settings.

    confidence: of sets and intervals. certify: ``l2`` certifies by randomized smoothing with noise ``sigma`` (pixels in
    [0, 1]), ``samples`` passes, chance ``alpha`` of a wrong certificate. seed: of noise and votes. vote: changed copies
    of each input that vote. detect: score each input for signs of an attack. input_check: ``strict`` refuses what would
    otherwise be made to fit.
    """

    confidence: PositiveShare = 0.9
    certify: Literal["none", "l2"] = "none"
    sigma: Positive = 0.25
    samples: Annotated[int, Range(10, 100_000)] = 1000
    alpha: Annotated[float, Range(0, 0.5, open=True)] = 0.001
    seed: Seed = 0
    vote: Annotated[int, Range(0, MOST_VOTES)] = 0
    detect: bool = False
    input_check: Literal["normal", "strict"] = "normal"

    def __post_init__(self) -> None:
        hints = signature(Wishes).hints
        for f in fields(self):
            if why := refusal(f.name, getattr(self, f.name), hints[f.name]):
                raise RefusedRequest(why)

    def changed(self, parameters: Mapping[str, Any] | None) -> Wishes:
        """With the parameters of a request. Names that mean nothing here are other clients' own; a slip is refused."""
        given, known = {}, [f.name for f in fields(self)]
        for name, value in (parameters or {}).items():
            if name in known:
                given[name] = _typed(name, value, getattr(self, name))
            elif not (told := nearest(str(name)[:80], known)).startswith("allowed"):
                raise RefusedRequest(f"There is no parameter '{str(name)[:80]}'; {told}")
        return replace(self, **given) if given else self

    @property
    def plain(self) -> bool:
        """Nothing is asked for beside the answer."""
        return self.certify == "none" and not self.vote and not self.detect


def _typed(name: str, value: Any, default: Any) -> Any:
    """gRPC and forms send numbers and truth values as text."""
    if isinstance(default, str):
        return "none" if name == "certify" and (value is None or value in OFF) else value
    if not isinstance(value, str):
        whole = isinstance(default, float) and type(value) is int
        return float(value) if whole and abs(value) < 1e15 else value
    text = value.strip().lower()
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text, value)
    try:
        number = float(text) if isinstance(default, float) else int(text)
        return number if math.isfinite(number) else value
    except (ValueError, OverflowError):  # a whole number too large for anything
        return value
