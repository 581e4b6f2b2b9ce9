"""What each class is in the user's words, for sources that read text beside their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reprogram.errors import ConfigError, nearest

LONGEST = 2_000  # characters of a description


def descriptions_of(given: Mapping[str, str] | None, classes: Sequence[str]) -> tuple[str, ...]:
    """One text a class in the order of ``classes``, the name where ``given`` has none; empty without any.

    Raises ConfigError for a class that is not there, and for a text that is empty or too long.
    """
    for name, text in (given or {}).items():
        if name not in classes:
            raise ConfigError(f"target.descriptions has '{name}', which is no class; {nearest(name, classes)}.")
        if not text.strip() or len(text) > LONGEST:
            raise ConfigError(f"target.descriptions.{name} must be a text of 1 to {LONGEST:,} characters.")
    return tuple((given or {}).get(name, name) for name in classes) if given else ()
