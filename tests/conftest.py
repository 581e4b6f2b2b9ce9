"""Small things that many tests need: a tiny source with BatchNorm, easy images, an empty run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, TargetInfo
from reprogram.result import Result
from reprogram.sources.pooling import pool_grid
from reprogram.targets.base import ArrayExamples


class TinySource(SourceModel):
    """Random convolutions with BatchNorm: 7 source labels, 8 features, one tap ``conv``."""

    def __init__(self, seed: int = 0, labels: int = 7) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.name = "tiny"
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, labels)
        names = tuple(f"s{i}" for i in range(labels))
        self.spec = SourceSpec("image", 16, names, feature_size=8, taps=("conv",))
        self.freeze()

    def answer(self, source_input, taps=()):
        x = self.conv(source_input * 2 - 1)
        features = x.mean((2, 3))
        return SourceOutput(self.head(features), features, {t: pool_grid(x, t.pooling) for t in taps})


@pytest.fixture
def tiny_source():
    return TinySource


@pytest.fixture
def easy_images():
    """40 images of 12x12 in two classes that a mean colour tells apart, and their TargetInfo."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.random((40, 3, 12, 12)).astype(np.float32) * 0.4
    images[labels == 1, 0] += 0.5
    return ArrayExamples(images, labels), TargetInfo("easy", "image", "classification", ("a", "b"), (3, 12, 12))


@pytest.fixture
def empty_run(tmp_path: Path) -> Run:
    return Run(tmp_path, 0, Result("reprogram", 0))
