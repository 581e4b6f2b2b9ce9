"""Common corruptions: mean accuracy of each over the severities, and over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from reprogram.errors import ConfigError
from reprogram.progress import track
from reprogram.ranges import Range
from reprogram.robustness import corruptions
from reprogram.robustness.checks.base import FEW, Check, Examples, Scope
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Outcome, share_row
from reprogram.robustness.losses import wrong


@dataclass
class CorruptionsCheck(Check):
    """severities: of 1 to 5."""

    examples: Examples = FEW
    severities: tuple[Annotated[int, Range(1, 5)], ...] = (1, 2, 3, 4, 5)

    kind: ClassVar[str] = "estimate"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.severities = tuple(self.severities)
        if unknown := sorted(set(self.severities) - set(corruptions.SEVERITIES)):
            raise ConfigError(f"severities={list(self.severities)}: there is no severity {unknown[0]}; allowed: 1 to 5.")
        if not self.severities:
            raise ConfigError("severities=[] names none; allowed: some of 1 to 5.")

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        rows, every = [], []
        images, labels = model.images[: scope.count], model.labels[: scope.count]
        for name in track(corruptions.CORRUPTIONS, "robustness: corruptions", len(corruptions.CORRUPTIONS)):
            right = []
            for severity in self.severities:
                changed = corruptions.corrupt(name, images, severity, model.seed)
                right.append(~wrong(model.logits(changed), labels).cpu())
            row = share_row(name, "estimate", f"corruption, severities {list(self.severities)}", torch.cat(right))
            row.more = {"by_severity": [float(r.float().mean()) for r in right], "family": "corruption"}
            rows.append(row)
            every.append(torch.cat(right))
        threat = f"all corruptions, severities {list(self.severities)}"
        return Outcome([share_row(scope.name, "estimate", threat, torch.cat(every)), *rows])
