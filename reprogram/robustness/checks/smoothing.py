"""Randomized smoothing: certified accuracy of the classifier that votes over Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from reprogram.errors import ConfigError
from reprogram.progress import track
from reprogram.ranges import Count, Positive
from reprogram.robustness.certification.randomized_smoothing import Smoothed, Smoothing
from reprogram.robustness.checks.base import Check, Examples, Scope, at_least
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Flag, Outcome, share_row
from reprogram.threat import Threat

VOTES = Flag("smoothed_classifier", "of the classifier that votes over noise, not of the model itself")


@dataclass
class SmoothingCheck(Check):
    """samples: passes an example. sigma: standard deviation of the noise, in pixels of [0, 1]."""

    examples: Examples = 6
    samples: Count = 500
    sigma: Positive = 0.25

    kind: ClassVar[str] = "certificate"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, samples=self.samples)
        if not self.sigma > 0:
            raise ConfigError(f"sigma={self.sigma} must be above 0.")

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        """Examples that abstain or are wrong are not certified."""
        rows = torch.arange(min(scope.count, len(model.images)))
        certifier = Smoothing(sigma=self.sigma, samples=self.samples, seed=model.seed)
        answers = [
            certifier.certify(model.model, model.images[i], int(i))
            for i in track(rows.tolist(), "robustness: smoothing", len(rows))
        ]
        labels = model.labels[rows].tolist()
        right = [a.label == y for a, y in zip(answers, labels, strict=True)]
        abstained = sum(a.label < 0 for a in answers)
        size, found = model.images[0].numel(), []
        about: dict[str, Any] = {"sigma": self.sigma, "samples": self.samples, "alpha": certifier.alpha, "abstained": abstained}
        for norm, eps in scope.threats.items():
            for method in ("smoothing", "smoothing_first_order"):
                radii = [_radius(a, norm, size, method) if ok else 0.0 for a, ok in zip(answers, right, strict=True)]
                threat = f"{Threat(norm, eps)}, smoothed classifier"
                row = share_row(method, "certificate", threat, np.array(radii) >= eps, flags=[VOTES])
                row.more = about | {"median_radius": float(np.median(radii)), "smoothed_accuracy": float(np.mean(right))}
                row.more |= {"family": norm, "size": eps}
                found.append(row)
        return Outcome(found)


def _radius(answer: Smoothed, norm: str, size: int, method: str) -> float:
    return answer.radius(norm, size) if method == "smoothing" else answer.first_order.get(norm, 0.0)
