"""Pooling of a layer's activations to one vector an input."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from reprogram.errors import ConfigError


def pool_grid(activation: Tensor, pooling: str) -> Tensor:
    """[B, C, h, w] -> [B, C * g * g], average-pooled to a g x g grid; ``pooling`` is g as text."""
    if not pooling.isdigit() or int(pooling) < 1:
        raise ConfigError(f"An image layer is pooled to a grid such as '1' or '2', not '{pooling}'.")
    return F.adaptive_avg_pool2d(activation, int(pooling)).flatten(1)
