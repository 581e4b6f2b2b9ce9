"""Random patterns in time and tone as plain features of sounds: which fits best, and where.

The competing kernels of :mod:`reprogram.inputs._convolutions` in two dimensions. A pattern is found wherever it lies within a
part of the spectrogram: another voice, a little higher or slower, has it in the same part. Parts that reach over the whole of
the time carry over best to other voices, which differ most in when they say what. Nothing is fitted.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reprogram.inputs._mel import columns, log_mel, over_bands

BANDS, COLUMNS, LONG_WINDOW = 40, 64, 0.064  # of the spectrogram; the window in seconds
SIDE, IN_GROUP, GROUPS = 5, 8, 8  # weights of a kernel along each axis, kernels of a group, groups of each dilation
DILATIONS = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (2, 4))  # in bands, in columns
PARTS = (4, 4)  # of tone and of time
TONES = (5, 1)  # parts of tone, over all of the time


def patterns(block: Tensor, rate: float, parts: tuple[int, int] = PARTS) -> Tensor:
    """Signals [B, C, L] -> [B, 384 · parts] square roots of what the best fitting kernel of each group reached in each part."""
    level, ends = log_mel(block, rate, BANDS, LONG_WINDOW)
    picture = over_bands(columns(level, ends, COLUMNS))[:, None] / 20.0
    found = []
    for place, (tones, times) in enumerate(DILATIONS):
        weights = kernels(place).to(picture)
        padding = (SIDE // 2 * tones, SIDE // 2 * times)
        answers = F.conv2d(picture, weights, padding=padding, dilation=(tones, times)).unflatten(1, (GROUPS, IN_GROUP))
        best, which = answers.max(2, keepdim=True)
        reached = torch.zeros_like(answers).scatter(2, which, best.clamp_min(0)).flatten(1, 2)
        found.append((F.adaptive_avg_pool2d(reached, parts) + 1e-8).sqrt().flatten(1))
    return torch.cat(found, 1)


@lru_cache(maxsize=16)
def kernels(place: int) -> Tensor:
    """Weights [64, 1, 5, 5] of mean 0 and absolute sum 1."""
    weights = np.random.RandomState(50 + place).standard_normal((GROUPS * IN_GROUP, 1, SIDE, SIDE))
    weights -= weights.mean((2, 3), keepdims=True)
    return torch.from_numpy(weights / np.abs(weights).sum((2, 3), keepdims=True)).float()
