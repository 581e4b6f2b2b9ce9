"""Random convolutions as plain features of signals: how often each kernel of a small group fits best.

HYDRA (Dempster, Schmidt & Webb 2023, arXiv 2203.13652): kernels of nine random weights compete in groups of eight, on the
signal and on its first differences, at dilations that double. Nothing is fitted, so a kept program holds no kernel: the
stream of ``numpy.random.RandomState`` is fixed for ever.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reprogram.modalities._kernels import TAPS, long_enough

IN_GROUP, GROUPS = 8, 32  # kernels of a group, groups of each dilation
MOST_CHANNELS = 8  # that one group adds up


def competing(signals: Tensor, groups: int = GROUPS) -> Tensor:
    """Filled signals [B, C, L] -> [B, F] square roots of counts, F = 2 · dilations · groups · 8 · 2."""
    signals = long_enough(signals)
    steps = dilations(signals.shape[2])
    found = []
    for place, step in enumerate(steps):
        for which, x in enumerate((signals, signals.diff(dim=2))):
            weights, mixing = kernels(2 * place + which, signals.shape[1], groups)
            mixed = x if signals.shape[1] == 1 else torch.einsum("gc,bcl->bgl", mixing.to(x), x)
            if signals.shape[1] == 1:
                answers = F.conv1d(x, weights.to(x), padding=4 * step, dilation=step)
            else:
                answers = F.conv1d(mixed, weights.to(x), padding=4 * step, dilation=step, groups=groups)
            found.append(_counts(answers.unflatten(1, (groups, IN_GROUP))))
    return torch.cat(found, 1)


def _counts(answers: Tensor) -> Tensor:
    """[B, g, 8, L] -> [B, g · 16]: what the best fitting kernel reached, summed, and how often each fitted worst."""
    best, which = answers.max(2)
    reached = torch.zeros_like(answers[..., 0]).scatter_add(2, which, best)
    worst = torch.zeros_like(reached).scatter_add(2, answers.min(2).indices, torch.ones_like(best))
    size = answers.shape[3]
    return torch.cat([(reached.clamp_min(0) / size + 1e-8).sqrt(), (worst / size).sqrt()], 2).flatten(1)


def dilations(length: int) -> list[int]:
    """1, 2, 4, … as long as a kernel fits into the signal."""
    return [2**power for power in range(int(math.log2((length - 1) / (TAPS - 1))) + 1)] if length > TAPS else [1]


@lru_cache(maxsize=64)
def kernels(seed: int, channels: int, groups: int) -> tuple[Tensor, Tensor]:
    """Weights [groups · 8, 1, 9] of mean 0 and absolute sum 1, and which channels each group adds up [groups, C]."""
    stream = np.random.RandomState(seed)
    weights = stream.standard_normal((groups * IN_GROUP, 1, TAPS))
    weights -= weights.mean(2, keepdims=True)
    weights /= np.abs(weights).sum(2, keepdims=True)
    mixing = np.zeros((groups, channels))
    for row in mixing:
        row[stream.permutation(channels)[: max(1, min(MOST_CHANNELS, channels // 2))]] = 1.0
    return torch.from_numpy(weights).float(), torch.from_numpy(mixing).float()
