"""Certified accuracy and radii by linear bounds (CROWN) of the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from reprogram.progress import track
from reprogram.ranges import Amount
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.checks._certified import CANNOT, CONTRADICTED, MOST_BENDS, REACH, not_bounded, vacuous
from reprogram.robustness.checks.base import Check, Examples, Scope
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Outcome, Row, share_row
from reprogram.threat import NORMS


@dataclass
class LinearBoundsCheck(Check):
    """most: nonlinear units of a network whose intermediate bounds are tightened by back-substitution. slopes: steps by
    which the lines below ReLUs are optimised (alpha-CROWN): tighter, and so many times the time; 0: not."""

    examples: Examples = 4
    most: Amount = MOST_BENDS
    slopes: Amount = 0

    kind: ClassVar[str] = "certificate"
    norms: ClassVar[tuple[str, ...]] = NORMS
    access: ClassVar[str] = "white_box"

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        """States plainly where the bounds say nothing."""
        threat, rows = scope.main, list(range(min(scope.count, len(model.images))))
        bounds, reach = LinearBounds(most=self.most, both=False, slopes=self.slopes), REACH * threat.eps
        network, radii = model.module or model.model, torch.zeros(len(rows))
        about = {"family": threat.norm, "size": threat.eps}
        try:
            for i in track(rows, f"robustness: linear bounds {threat.norm}", len(rows)):
                radii[i] = bounds.radius(network, model.images[i], int(model.labels[i]), threat.norm, reach)
        except CANNOT as error:
            row = Row(scope.name, "certificate", f"{threat}", None, n=0, flags=[not_bounded(error)], more=about)
            return Outcome([row])
        row = share_row(scope.name, "certificate", f"{threat}", radii >= threat.eps)
        row.more = about | {"median_radius": float(radii.median()), "largest_tried": reach}
        if float(radii.max()) == 0 and bool(model.clean[rows].any()):
            row.flags.append(vacuous("radius"))
        far = model.distances.get(threat.norm)
        if far is not None and bool((radii > far[: len(radii)] * (1 + 1e-4)).any()):
            row.flags.append(CONTRADICTED)
        return Outcome([row])
