"""MiniRocket's features of signals, fitted: for how much of the time a kernel answers above quantiles of training signals.

Dempster, Schmidt & Webb 2021 (arXiv 2012.08791); first differences as in MultiRocket (Tan et al. 2022, arXiv 2102.00457). The
thresholds are quantiles of what training signals answer. They are all that is fitted and kept: kernels, dilations and the
channels that each kernel adds up are fixed for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reprogram.modalities._kernels import TAPS, kernels, long_enough, share_above, steps

MOST_SIGNALS = 128  # that thresholds are taken from: answers of all kernels of all signals would fill the memory
AT_ONCE = 16  # signals; more only cost memory
GOLDEN = (5**0.5 + 1) / 2
MOST_CHANNELS = 9  # that one kernel adds up


def fitted(signals: Tensor, each: int) -> Tensor:
    """Filled signals [N, C, L] -> thresholds [F]: for each kernel and dilation ``each`` quantiles, each of another signal.

    Of many signals ``MOST_SIGNALS``, evenly spread, are enough for quantiles."""
    signals = signals[torch.linspace(0, len(signals) - 1, min(len(signals), MOST_SIGNALS)).round().long()]
    stream, found, place = np.random.RandomState(0), [], 0
    for answers in _answers(signals):
        count, width = answers.shape[1], answers.shape[2]
        rows = torch.from_numpy(stream.randint(len(signals), size=(count, each)))
        ranks = (np.arange(place + 1, place + 1 + count * each) * GOLDEN % 1).reshape(count, each)
        place += count * each
        at = torch.from_numpy((ranks * (width - 1)).round().astype(np.int64))
        picked = answers[rows, torch.arange(count)[:, None]].sort(2).values
        found.append(picked.gather(2, at[..., None].to(picked.device))[..., 0].flatten())
    return torch.cat(found)


def above(signals: Tensor, thresholds: Tensor) -> Tensor:
    """Filled signals [B, C, L] -> [B, F] shares of time above each of ``thresholds`` [F], as :func:`fitted` orders them."""
    each = len(thresholds) // width(signals.shape[2])
    parts = []
    for part in signals.split(AT_ONCE):
        found, start = [], 0
        for answers in _answers(part):
            size = answers.shape[1] * each
            levels = thresholds[start : start + size].view(-1, each).to(answers)
            found.append(torch.stack([share_above(answers, level[:, None]) for level in levels.unbind(1)], 2).flatten(1))
            start += size
        parts.append(torch.cat(found, 1))
    return torch.cat(parts)


def width(length: int) -> int:
    """Kernels of all dilations of the signal and of its differences: F is this times the quantiles of each."""
    return 2 * len(kernels()) * len(steps(max(length, TAPS + 1)))


def _answers(signals: Tensor) -> Iterator[Tensor]:
    """[B, 84, l] of each dilation; every second one without padding, so that values beyond the ends count for half."""
    signals = long_enough(signals)
    channels, weights = signals.shape[1], kernels().to(signals)
    for which, x in enumerate((signals, signals.diff(dim=2))):
        for place, step in enumerate(steps(signals.shape[2])):
            mixed = torch.einsum("gc,bcl->bgl", mixing(2 * place + which, channels).to(x), x) if channels > 1 else x
            padding = 4 * step if place % 2 == 0 or x.shape[2] <= 16 * step else 0
            yield F.conv1d(mixed, weights, padding=padding, dilation=step, groups=len(weights) if channels > 1 else 1)


@lru_cache(maxsize=64)
def mixing(seed: int, channels: int) -> Tensor:
    """Which channels each kernel adds up, [84, C]: few more often than many, as in MiniRocket."""
    stream = np.random.RandomState(2000 + seed)
    found = np.zeros((len(kernels()), channels))
    for row in found:
        count = int(2 ** stream.uniform(0, math.log2(min(channels, MOST_CHANNELS) + 1)))
        row[stream.permutation(channels)[:count]] = 1.0
    return torch.from_numpy(found).float()
