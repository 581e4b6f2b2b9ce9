"""What one would run on signals without any pretrained model: MiniRocket, nearest neighbours by warping, ridges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from reprogram.evaluation.baselines.base import Baseline, Bench
from reprogram.evaluation.tuning import Tuned, choose
from reprogram.interfaces import Examples
from reprogram.modalities import modality
from reprogram.modalities._signals import resampled

LONGEST = 2000  # samples that warping and MiniRocket read of a signal: a longer one is thinned out
MOST_CELLS = 2e10  # cells of all warping matrices together; more would take more than some minutes
RAW_POINTS = 256
AT_ONCE = 64


@dataclass
class SignalBaselines(Baseline):
    """Rows ``minirocket+ridge`` (Dempster, Schmidt & Webb 2021, arXiv 2012.08791), ``warping+nearest`` (dynamic time warping),
    ``raw+ridge`` and, where the rate is known, ``log_mel+ridge``. MiniRocket and warping come from the package aeon; without
    it, or where they would take too long, they have no row."""

    def __call__(self, bench: Bench) -> dict[str, np.ndarray]:
        info = bench.target.info
        if modality(info.kind).batch != "series" or info.input_shape is None:
            return {}  # other inputs have no such rows
        train, test = read(bench.target.train), read(bench.target.test)
        rows = {"raw+ridge": self._ridge(bench, *(raw(part) for part in (train, test)))}
        if info.input_shape[1] > 1:
            whole = (bench.target.train, bench.target.test)
            rows["log_mel+ridge"] = self._ridge(bench, *(log_mel(part, float(info.input_shape[1])) for part in whole))
        if find_spec("aeon") is None:
            bench.target.notes.append("No baselines by MiniRocket and warping: pip install 'reprogram[series]'.")
            return rows
        rows["minirocket+ridge"] = self._ridge(bench, *minirocket(train, test, bench.seed))
        cells = len(train) * len(test) * float(min(train.shape[2], LONGEST)) ** 2
        if info.problem == "classification" and cells <= MOST_CELLS:
            rows["warping+nearest"] = nearest(train, np.asarray(bench.target.train.labels), test, len(info.classes))
        elif info.problem == "classification":
            bench.target.notes.append("No baseline by warping: these signals are too many or too long for it.")
        return rows

    def _ridge(self, bench: Bench, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        columns = len(bench.target.info.classes) if bench.target.info.problem == "classification" else 0
        return fit_ridge(train, np.asarray(bench.target.train.labels), columns, bench.seed).scores(test)


def read(examples: Examples) -> torch.Tensor:
    """All signals [N, C, L], each stretched over the whole length, at most 2,000 samples, none missing."""
    whole: torch.Tensor = examples.batch(np.arange(len(examples)))
    return resampled(whole, min(whole.shape[2], LONGEST))


def raw(signals: torch.Tensor) -> np.ndarray:
    """[N, C · 256] the signals themselves."""
    return resampled(signals, min(signals.shape[2], RAW_POINTS)).flatten(1).numpy()


def log_mel(examples: Examples, rate: float) -> np.ndarray:
    """[N, 1024] a small log-mel spectrogram of each signal at its own speed."""
    from reprogram.inputs._mel import patches

    parts = np.array_split(np.arange(len(examples)), -(-len(examples) // AT_ONCE))
    return np.concatenate([patches(examples.batch(rows), rate, relative=False).numpy() for rows in parts])


def minirocket(train: torch.Tensor, test: torch.Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features of both; fitted on the training signals."""
    from aeon.transformations.collection.convolution_based import MiniRocket
    from sklearn.preprocessing import StandardScaler

    short = max(0, 9 - train.shape[2])  # its kernels have nine weights
    parts = [torch.nn.functional.pad(part, (0, short), mode="replicate").numpy() for part in (train, test)]
    transform = MiniRocket(random_state=seed).fit(parts[0])
    features = [np.asarray(transform.transform(part), dtype=np.float32) for part in parts]
    scaler = StandardScaler().fit(features[0])
    return scaler.transform(features[0]), scaler.transform(features[1])


def nearest(train: torch.Tensor, labels: np.ndarray, test: torch.Tensor, columns: int) -> np.ndarray:
    """[N, T] one for the class of the nearest training signal by dynamic time warping (Sakoe & Chiba 1978), else zero."""
    from aeon.distances import dtw_pairwise_distance

    apart = dtw_pairwise_distance(test.double().numpy(), train.double().numpy())
    scores = np.zeros((len(test), columns))
    scores[np.arange(len(test)), labels[apart.argmin(1)]] = 1.0
    return scores


def fit_ridge(features: np.ndarray, labels: np.ndarray, columns: int, seed: int) -> Tuned:
    """Ridge with its strength by leave-one-out, as the authors of MiniRocket use it; calibrated on held-out answers."""
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV

    strengths = np.logspace(-3, 3, 10)
    make: Callable[[], Any] = lambda: RidgeClassifierCV(strengths) if columns else RidgeCV(strengths)  # noqa: E731
    return choose([make], features, labels if columns else labels.reshape(len(labels)).astype(float), columns, seed)
