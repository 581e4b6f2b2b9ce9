"""Kinds of inputs, one object each: what they are read with, what is tried first, how an example is shown.

A modality names methods and never imports them, so it stands below inputs, sources and outputs: all of them ask it
instead of deciding by themselves. Another package adds a modality with an entry point in ``reprogram.modalities``.
"""

from __future__ import annotations

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceSpec
from reprogram.modalities.base import Candidate, Modality
from reprogram.registry import find, names

__all__ = ["Candidate", "Modality", "check_source", "known", "modality"]


def modality(kind: str) -> Modality:
    """The modality of a target's or a source's ``kind``. Raises ConfigError for one that is not installed."""
    if kind not in known():
        raise ConfigError(f"There is no modality '{kind[:40]}'; allowed: {', '.join(known())}.")
    found: type[Modality] = find(__name__, kind, Modality)
    return found()


def check_source(method: str, makes: str, spec: SourceSpec) -> None:
    """Raises ConfigError where input transformation ``method``, which makes inputs of one kind, meets another source."""
    if spec.kind != makes:
        raise ConfigError(f"input={method} makes {modality(makes).batch}, but the source reads {spec.kind}")


def known() -> list[str]:
    """The kinds of inputs that are installed."""
    return [name for name in names(__name__) if name != "batches"]  # the one file here that is no modality
