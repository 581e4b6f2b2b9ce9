"""Small made-up source answers, so that mappings are tested without a source."""

import numpy as np
import pytest
import torch

from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo

TAPS = (Tap("low", "2"), Tap("high", "1"))


@pytest.fixture
def spec():
    return SourceSpec("image", 32, tuple(f"s{i}" for i in range(20)), feature_size=12, taps=("low", "high"))


@pytest.fixture
def info():
    def make(classes=3, problem="classification"):
        return TargetInfo("toy", "image", problem, tuple(f"t{i}" for i in range(classes)), (1, 8, 8))

    return make


@pytest.fixture
def answers():
    """answers(labels, seed): one view whose logits, features and taps depend on integer labels plus noise."""

    def make(labels, seed=0, noise=1.0, sources=20):
        rng = np.random.default_rng(seed)
        fixed = np.random.default_rng(99)

        def values(width):
            means = fixed.normal(size=(50, width))
            return torch.tensor(means[np.asarray(labels)] + noise * rng.normal(size=(len(labels), width))).float()

        return SourceOutput(values(sources), values(12).abs(), {TAPS[0]: values(16), TAPS[1]: values(8)})

    return make
