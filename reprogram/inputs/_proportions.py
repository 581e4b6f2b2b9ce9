"""Convolutions of three values as plain features of signals: for how much of the time each answer is above a threshold.

The 84 kernels of MiniRocket (Dempster, Schmidt & Webb 2021, arXiv 2012.08791), on the signal and on its first differences. Its
thresholds are quantiles of training signals (:mod:`reprogram.outputs._rocket`); these are fixed shares of each signal's own
deviation: nothing is fitted, and the scale of a signal does not matter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reprogram.inputs._convolutions import MOST_CHANNELS
from reprogram.modalities._kernels import kernels, long_enough, share_above, steps
from reprogram.modalities._signals import TINY

THRESHOLDS = (0.05, 0.3, 1.0, 3.0)  # above and below 0, in deviations of what a kernel answers to white noise


def proportions(signals: Tensor) -> Tensor:
    """Filled signals [B, C, L] -> [B, F] shares of time, F = 2 · dilations · 84 · 8. Their scale does not matter."""
    signals = long_enough(signals)
    channels, found = signals.shape[1], []
    weights = kernels().to(signals)
    for place, step in enumerate(steps(signals.shape[2])):
        for which, x in enumerate((signals, signals.diff(dim=2))):
            if channels > 1:
                x = torch.einsum("gc,bcl->bgl", mixing(2 * place + which, channels).to(x), x)
            unit = x.std(2, keepdim=True).mean(1, keepdim=True).clamp_min(TINY)
            groups = len(weights) if channels > 1 else 1
            answers = F.conv1d(x / unit, weights, padding=4 * step, dilation=step, groups=groups)
            found += [share_above(answers, sign * level) for level in THRESHOLDS for sign in (-1.0, 1.0)]
    return torch.cat(found, 1)


@lru_cache(maxsize=64)
def mixing(seed: int, channels: int) -> Tensor:
    """Which channels each kernel adds up, [84, C]."""
    stream = np.random.RandomState(1000 + seed)
    found = np.zeros((84, channels))
    for row in found:
        row[stream.permutation(channels)[: max(1, min(MOST_CHANNELS, channels // 2))]] = 1.0
    return torch.from_numpy(found).float()
