"""Pooling of token states to one vector a string, padding left out."""

from __future__ import annotations

import torch
from torch import Tensor

from reprogram.errors import ConfigError, nearest

POOLINGS = ("mean", "max", "std", "first", "last")


def pool_states(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """States [B, L, D] and mask [B, L] (1 = real token, padding on the right) -> [B, D].

    ``std`` is the standard deviation over the string's tokens (population form; zero for one token).
    """
    real = mask.unsqueeze(-1).to(states.dtype)
    count = real.sum(1).clamp(min=1)
    if pooling == "mean":
        return (states * real).sum(1) / count
    if pooling == "max":
        return states.masked_fill(real == 0, torch.finfo(states.dtype).min).amax(1)
    if pooling == "std":
        mean = (states * real).sum(1, keepdim=True) / count.unsqueeze(1)
        variance = ((states - mean).square() * real).sum(1) / count
        return variance.clamp(min=1e-12).sqrt()
    if pooling == "first":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1).clamp(min=1) - 1]
    raise ConfigError(f"Tokens cannot be pooled by '{pooling}'; {nearest(pooling, POOLINGS)}")
