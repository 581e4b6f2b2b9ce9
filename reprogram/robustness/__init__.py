"""Attack, certify and estimate what a classifier is worth; ``evaluate(model, data, depth="quick")`` does it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprogram.exports import exported

if TYPE_CHECKING:
    from reprogram.robustness.art import to_art
    from reprogram.robustness.evaluation import evaluate
    from reprogram.robustness.plan import settings
    from reprogram.threat import Threat

_PUBLIC = {
    "Threat": "reprogram.threat",
    "evaluate": "reprogram.robustness.evaluation",
    "settings": "reprogram.robustness.plan",
    "to_art": "reprogram.robustness.art",
}
__all__ = ["Threat", "evaluate", "settings", "to_art"]

__getattr__ = exported(__name__, _PUBLIC)


def __dir__() -> list[str]:
    return sorted(__all__)
