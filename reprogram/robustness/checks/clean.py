"""Accuracy without any perturbation, with every flag that the model raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from reprogram.robustness.checks.base import Check, Scope
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Outcome, share_row


@dataclass
class Clean(Check):
    """Accuracy without any change to the inputs, for comparison."""

    kind: ClassVar[str] = "estimate"

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        return Outcome([share_row(scope.name, "estimate", "none", model.clean_rate, flags=model.flags)])
