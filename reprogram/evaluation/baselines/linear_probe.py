"""Logistic (or ridge) regression on the source's own pooled features at its own resolution: nothing clever."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprogram.evaluation.baselines.base import Baseline, Bench
from reprogram.evaluation.simple_models import fit_predict


@dataclass
class LinearProbe(Baseline):
    """What a practitioner would try first. Where it wins, the verdict names it."""

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        train, test = bench.plain_features(bench.target.train), bench.plain_features(bench.target.test)
        labels = bench.target.train.labels
        return {"linear_probe": fit_predict("logistic", train, labels, test, bench.target.info, bench.seed)}
