"""How strings fall into tokens of the target: every modality brings its own ways, found here by name."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import cache

from reprogram.errors import ConfigError, nearest
from reprogram.modalities import known, modality
from reprogram.modalities.base import Tokenization

CHARACTERS = tuple(string.printable[:95])
UNKNOWN = "<unknown>"


@cache
def tokenizations() -> dict[str, Tokenization]:
    """All by name, the toolkit's own first; ``characters``, which fits any string, comes last."""
    kinds = sorted(map(modality, known()), key=lambda kind: not type(kind).__module__.startswith("reprogram."))
    found = {name: way for kind in kinds for name, way in kind.tokenizations().items()}
    return found | {"characters": found.pop("characters")}


def splitter(kind: str, key: str = "input.tokens") -> Callable[[str], list[str]]:
    """Strings to target tokens, by name, such as ``amino_acids`` or ``characters``."""
    if kind not in tokenizations():
        raise ConfigError(f"{key}={kind} is not a tokenisation; {nearest(kind, tokenizations())}")
    return tokenizations()[kind].split


class TargetTokens:
    """A closed vocabulary of target tokens: a token that is not in it is spelled by its characters.

    tokens: names in id order, :data:`UNKNOWN` first (letters that nobody writes).
    """

    def __init__(self, kind: str) -> None:
        self._split, way = splitter(kind), tokenizations()[kind]
        self.tokens, self._names = (UNKNOWN, *CHARACTERS, *way.longer()), way.names
        self._id = {token: i for i, token in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        pieces = [p for token in self._split(text) for p in ([token] if token in self._id else token)]
        return [self._id.get(piece, 0) for piece in pieces]

    def names(self) -> list[str]:
        """What each token means in English, or how it is written."""
        return [self._names.get(token, token) for token in self.tokens]
