"""Semantic changes (rotation, translation, brightness, …): the worst of each grid, and certified ranges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reprogram.progress import track
from reprogram.ranges import Amount, Count
from reprogram.robustness import semantic
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.checks._certified import CANNOT, CONTRADICTED, MOST_BENDS, correct, not_bounded, vacuous
from reprogram.robustness.checks.base import FEW, Check, Examples, Scope, at_least
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Flag, Outcome, Row, share_row

MOST_PIECES = 8  # of a range, on each side, that are certified one after the other
COMPLETE = Flag("complete", "a finite set, tried completely")


@dataclass
class SemanticCheck(Check):
    """points: of each perturbation's grid. certified: examples whose range is certified (0: none). most: as for linear
    bounds."""

    examples: Examples = FEW
    points: Count = 9
    certified: Amount = 4
    most: Amount = MOST_BENDS

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, points=self.points)
        at_least(0, certified=self.certified)

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        found = []
        images, labels = model.images[: scope.count], model.labels[: scope.count]
        certified = self.certified if model.differentiable else 0
        for make in track(semantic.ALL, "robustness: semantic", len(semantic.ALL)):
            perturbation = make(points=self.points)
            if not perturbation.fits(model.images):
                continue
            smallest = perturbation.attack(model.model, images, labels, model.batch_size)
            # one pass of a model that answers at random proves nothing
            finite = isinstance(perturbation, semantic.Translation | semantic.Occlusion) and not model.random
            threat = f"{perturbation.name} up to {perturbation.reach:g}"
            good = ~torch.isfinite(smallest)
            row = share_row(perturbation.name, "certificate" if finite else "attack", threat, good)
            row.more |= {"family": "semantic", "size": perturbation.reach}
            found.append(row)
            if finite:
                row.flags.append(COMPLETE)
            elif certified and isinstance(perturbation, semantic.Certifiable):
                rows = correct(model, min(certified, scope.count))
                found += self._certified(model, perturbation, rows, smallest)
        return Outcome(found)

    def _certified(
        self, model: EvaluatedModel, perturbation: semantic.Certifiable, rows: Tensor, smallest: Tensor
    ) -> Iterable[Row]:
        if not len(rows):
            return
        name, bounds, network = perturbation.name, LinearBounds(most=self.most, both=False), model.module or model.model
        try:
            ranges = [
                perturbation.certify(network, model.images[i], int(model.labels[i]), bounds, most=MOST_PIECES)
                for i in rows.tolist()
            ]
        except CANNOT as error:
            yield Row(name, "certificate", "linear bounds", None, n=0, flags=[not_bounded(error)])
            return
        row = Row(name, "certificate", f"{name}, linear bounds", float(np.median(ranges)), n=len(rows))
        row.low, row.high = min(ranges), max(ranges)
        row.more = {"largest_tried": min(perturbation.reach, MOST_PIECES * perturbation.piece)}
        if any(r > float(s) for r, s in zip(ranges, smallest[rows], strict=True)):
            row.flags.append(CONTRADICTED)
        if max(ranges) == 0:
            row.flags.append(vacuous("range"))
        yield row
