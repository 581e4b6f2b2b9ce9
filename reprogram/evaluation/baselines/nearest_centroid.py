"""The class whose mean feature vector is nearest by cosine; regression: the five nearest examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprogram.evaluation.baselines.base import Baseline, Bench
from reprogram.evaluation.simple_models import fit_predict


@dataclass
class NearestCentroid(Baseline):
    """Reads the same features as the linear probe; with one or two labels a class often as good."""

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        train, test = bench.plain_features(bench.target.train), bench.plain_features(bench.target.test)
        labels = bench.target.train.labels
        return {"nearest_centroid": fit_predict("nearest_centroid", train, labels, test, bench.target.info, bench.seed)}
