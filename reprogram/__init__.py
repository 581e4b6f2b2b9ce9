"""Reprogram frozen pretrained models for new tasks, check what came out, and design molecules with it.

``import reprogram`` stays light: torch, transformers and RDKit are imported by the parts that use them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "ReprogrammedModel": "reprogram.model",
    "ReprogrammedClassifier": "reprogram.estimator",
    "ReprogrammedRegressor": "reprogram.estimator",
    "load_source": "reprogram.sources",
    "load_target": "reprogram.targets",
    "save_pretrained": "reprogram.artifact",
    "from_pretrained": "reprogram.artifact",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'reprogram' has no attribute {name!r}")
