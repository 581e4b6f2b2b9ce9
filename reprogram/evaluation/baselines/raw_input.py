"""The target's own featurisers with simple models, without any source: pixels, fingerprints, k-mers, TF-IDF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprogram.evaluation.baselines.base import Baseline, Bench, NotApplicable
from reprogram.evaluation.simple_models import fit_predict
from reprogram.interfaces import Examples, Featuriser


@dataclass
class RawInput(Baseline):
    """One row a featuriser and model: the featuriser's name, with ``+model`` where it names several models."""

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        rows = {}
        for name, featuriser in bench.target.featurisers().items():
            featuriser.fit(_inputs(bench.target.train))
            train = featurise(featuriser, bench.target.train, bench.batch_size)
            test = featurise(featuriser, bench.target.test, bench.batch_size)
            for model in featuriser.models:
                row = name if len(featuriser.models) == 1 else f"{name}+{model}"
                labels = bench.target.train.labels
                rows[row] = fit_predict(model, train, labels, test, bench.target.info, bench.seed)
        if not rows:
            raise NotApplicable(f"the target {bench.target.info.name} has no features of its own")
        return rows


def featurise(featuriser: Featuriser, examples: Examples, batch_size: int = 64) -> np.ndarray:
    """[N, F] features of all examples, read in batches."""
    size = len(examples)
    parts = [featuriser(examples.batch(np.arange(i, min(i + batch_size, size)))) for i in range(0, size, batch_size)]
    return np.concatenate(parts).astype(np.float32)


def _inputs(examples: Examples) -> object:
    return examples.batch(np.arange(len(examples)))
