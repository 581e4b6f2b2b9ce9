"""The 84 fixed kernels of MiniRocket (Dempster, Schmidt & Webb 2021, arXiv 2012.08791) and what convolutions of signals share."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = 9  # weights of a kernel
SOFT = 0.1  # width of a threshold for gradients


def long_enough(signals: Tensor) -> Tensor:
    """Signals [B, C, L] of at least ``TAPS + 1`` points: the last one is repeated."""
    missing = TAPS + 1 - signals.shape[2]
    return F.pad(signals, (0, missing), mode="replicate") if missing > 0 else signals


def share_above(answers: Tensor, thresholds: Tensor | float) -> Tensor:
    """[B, k, L] and thresholds (a number or [k, 1]) -> [B, k] shares of time above; gradients are those of a soft threshold."""
    hard = (answers > thresholds).to(answers).mean(2)
    if not answers.requires_grad:
        return hard
    soft = torch.sigmoid((answers - thresholds) / SOFT).mean(2)
    return hard + soft - soft.detach()


@lru_cache(maxsize=1)
def kernels() -> Tensor:
    """[84, 1, 9]: three weights are 2 and six are -1, over the norm of them."""
    weights = torch.full((84, 1, TAPS), -1.0)
    for row, places in enumerate(itertools.combinations(range(TAPS), 3)):
        weights[row, 0, list(places)] = 2.0
    return weights / weights[0].norm()


def steps(length: int) -> list[int]:
    """Dilations 1, 2, 3, 4, 6, 8, 11, 16, … (powers of √2) as long as a kernel fits into the signal."""
    most = 2 * math.log2((length - 1) / (TAPS - 1))
    return list(dict.fromkeys(round(2 ** (power / 2)) for power in range(math.floor(most) + 1)))
