"""Attack, certify and estimate what a classifier is worth; ``evaluate(model, data, depth="quick")`` does it all."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "evaluate": "reprogram.robustness.evaluation",
    "settings": "reprogram.robustness.plan",
    "Threat": "reprogram.threat",
    "to_art": "reprogram.robustness.art",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'reprogram.robustness' has no attribute {name!r}")
