"""Reprogram frozen pretrained models for new tasks and check what came out.

``import reprogram`` stays light: torch and transformers are imported by the parts that use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprogram.exports import exported

if TYPE_CHECKING:
    from reprogram.artifact import from_pretrained, save_pretrained
    from reprogram.estimator import ReprogrammedClassifier, ReprogrammedRegressor
    from reprogram.model import ReprogrammedModel
    from reprogram.sources import load_source
    from reprogram.targets import load_target

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
__all__ = [
    "ReprogrammedClassifier", "ReprogrammedModel", "ReprogrammedRegressor", "__version__", "from_pretrained", "load_source",
    "load_target", "save_pretrained",
]  # fmt: skip


__getattr__ = exported(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
