"""The target's own featurisers with simple models, without any source: pixels, fingerprints, k-mers, TF-IDF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reprogram.evaluation.baselines.base import Baseline, Bench, NotApplicable
from reprogram.evaluation.simple_models import best_of
from reprogram.interfaces import Examples, Featuriser


@dataclass
class RawInput(Baseline):
    """One row a featuriser and model: the featuriser's name, with ``+model`` where it names several models.

    Settings of the model, and variants of the features, are chosen by cross-validation on the training labels.
    """

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        rows = {}
        train, test = bench.target.train, bench.target.test
        for name, featuriser in bench.target.featurisers().items():
            read = []
            for variant in featuriser.variants():
                variant.fit(_inputs(train))
                read.append(tuple(featurise(variant, part, bench.batch_size) for part in (train, test)))
            for model in featuriser.models:
                row = name if len(featuriser.models) == 1 else f"{name}+{model}"
                rows[row] = best_of(model, read, train.labels, bench.target.info, bench.seed)
        if not rows:
            raise NotApplicable(f"the target {bench.target.info.name} has no features of its own")
        return rows


def featurise(featuriser: Featuriser, examples: Examples, batch_size: int = 64) -> Any:
    """[N, F] features of all examples, read in batches; sparse where the featuriser's are."""
    from scipy import sparse

    size = len(examples)
    parts = [featuriser(examples.batch(np.arange(i, min(i + batch_size, size)))) for i in range(0, size, batch_size)]
    if sparse.issparse(parts[0]):
        return sparse.vstack(parts).tocsr()
    return np.concatenate(parts).astype(np.float32)


def _inputs(examples: Examples) -> object:
    return examples.batch(np.arange(len(examples)))
