"""Depths whose settings all stand in a file of ``conf/``: ``NAME=quick`` and ``NAME=full``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprogram.errors import ConfigError


def refuse_other_depth(group: str, depth: str, given: Mapping[str, Any], depths: Mapping[str, Any]) -> None:
    """``robustness.depth=full`` beside the settings that ``robustness=quick`` spells out would run neither."""
    for other, settings in depths.items():
        apart = [k for k in given if getattr(settings, k) != getattr(depths[depth], k)]
        if len(apart) > 3 and all(given[k] == getattr(settings, k) for k in apart):
            raise ConfigError(f"{group}.depth={depth} conflicts with the settings of {other}; write {group}={depth}.")
