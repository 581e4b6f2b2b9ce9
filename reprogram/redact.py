"""Passwords and tokens never reach a file, a log or a message: one place that takes them out.

The address of a service may hold a user, a password and tokens. It is exchanged for a harmless one before anything is
written (:func:`conceal`), and only the HTTP client gets it back (:func:`reveal`). Besides, every text file that is
written and every message that is printed goes through :func:`redact`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

HIDDEN = "***"
PREFIX = "REPROGRAM_ADDRESS_"  # in the environment, so that worker processes have it too
SHORTEST = 6  # letters of a secret that is searched for anywhere; shorter ones are hidden where they stand in addresses
USER = re.compile(r"(?<=://)[^/\s?#\"'<>]*@")
NAMED = re.compile(
    r"((?:[?&;])[\w.\-]*(?:token|key|secret|passw|pwd|auth|sig|credential|session)[\w.\-]*=)[^&\s\"'<>#;]+", re.I
)
_known: dict[str, str] = {}  # secret -> what is written in its place


def conceal(address: str) -> str:
    """The address with its user, password and query values hidden; itself where it has none."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return redact(address)
    user, at, host = parts.netloc.rpartition("@")
    if HIDDEN in user or not (at or parts.query) or (not at and HIDDEN in parts.query):
        return address
    query = "&".join(f"{name}{sign}{HIDDEN if sign else ''}" for name, sign, _ in _pairs(parts.query))
    for number in range(1, 100):  # two services at one host may have two passwords
        mark = HIDDEN if number == 1 else f"{HIDDEN}{number}"
        shown = urlunsplit((parts.scheme, f"{mark}@{host}" if at else host, parts.path, query, ""))
        if not at and number > 1:
            shown = shown.replace(HIDDEN, mark)
        if os.environ.setdefault(_name(shown), address) == address:
            break
    _known[address] = shown
    hide(user.partition(":")[2])
    for name, _, value in _pairs(parts.query):
        if NAMED.match(f"?{name}=x"):
            hide(value)
    return shown


def reveal(address: str) -> str:
    """What :func:`conceal` was given."""
    return os.environ.get(_name(address), address)


def hide(secret: str) -> None:
    """Never write this text, nor what it stands for in an address."""
    for text in {secret, unquote(secret)}:
        if len(text) >= SHORTEST:
            _known[text] = HIDDEN


def redact(text: str) -> str:
    """``text`` without passwords and tokens."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, _known[secret])
    if "://" not in text:
        return text
    return NAMED.sub(rf"\1{HIDDEN}", USER.sub(lambda user: user[0] if HIDDEN in user[0] else f"{HIDDEN}@", text))


def concealed(value: Any) -> Any:
    """A configuration's plain value with every address that stands under a key ``url`` concealed."""
    if isinstance(value, dict):
        return {k: conceal(v) if k == "url" and isinstance(v, str) else concealed(v) for k, v in value.items()}
    return [concealed(v) for v in value] if isinstance(value, list) else value


def _pairs(query: str) -> Iterator[tuple[str, str, str]]:
    for part in query.split("&"):
        yield part.partition("=")


def _name(shown: str) -> str:
    return PREFIX + hashlib.sha256(shown.encode()).hexdigest()[:16]
