"""CLEVER: an estimate of the distance to the nearest adversarial example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from reprogram.progress import progress
from reprogram.ranges import Count
from reprogram.robustness.checks._certified import REACH, correct
from reprogram.robustness.checks.base import Check, Examples, Scope, at_least
from reprogram.robustness.estimates.clever import CleverScore
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Flag, Outcome, Row
from reprogram.threat import NORMS


@dataclass
class CleverCheck(Check):
    """batches, samples: of the maxima that the Weibull distribution is fitted to. targets: most likely other classes."""

    examples: Examples = 3
    batches: Count = 10
    samples: Count = 16
    targets: Count = 1

    kind: ClassVar[str] = "estimate"
    norms: ClassVar[tuple[str, ...]] = NORMS
    access: ClassVar[str] = "white_box"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, batches=self.batches, samples=self.samples, targets=self.targets)

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        """Percentiles of the estimated distance; the score is capped at the radius that was sampled."""
        rows, threat = correct(model, scope.count), scope.main
        if not len(rows):
            return Outcome()
        score = CleverScore(
            threat.norm, self.batches, self.samples, radius=REACH * threat.eps, targets=self.targets, seed=model.seed
        )
        with progress(f"robustness: CLEVER {threat.norm}", len(rows)) as bar:
            found = score(model.model, model.images[rows], model.labels[rows], bar.advance)
        fits = found.p_value[np.isfinite(found.p_value)]
        row = Row(scope.name, "estimate", threat.norm, float(np.median(found.score)), n=len(rows))
        row.low, row.high = (float(v) for v in np.percentile(found.score, [5, 95]))
        row.more = {"radius": score.radius, "batches": self.batches, "samples": self.samples, "targets": self.targets}
        row.more |= {"p_value": float(np.median(fits)) if len(fits) else None, "family": threat.norm}
        if len(fits) and float((fits < 0.05).mean()) > 0.2:
            text = f"the Weibull fit is rejected at 5% for {(fits < 0.05).mean():.0%} of the examples"
            row.flags.append(Flag("fit_rejected", text))
        if float((found.score >= score.radius * 0.999).mean()) > 0.5:
            row.flags.append(Flag("capped", "more than half of the scores reach the radius that was sampled"))
        if model.masked:
            row.flags.append(Flag("proves_nothing", "gradients are zero: this estimate is meaningless"))
        return Outcome([row])
