"""Taps of image models: which layers are wanted, and pooling of their activations to one vector an image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from reprogram.errors import ConfigError, SourceError, nearest
from reprogram.interfaces import Tap

LARGEST_GRID = 64  # a side; a program of a stranger could ask for any


def pool_grid(activation: Tensor, pooling: str) -> Tensor:
    """[B, C, h, w] -> [B, C * g * g], average-pooled to a g x g grid; ``pooling`` is g as text."""
    if not (pooling.isascii() and pooling.isdigit() and len(pooling) < 5 and 1 <= int(pooling) <= LARGEST_GRID):
        raise ConfigError(
            f"An image layer is pooled to a grid such as '1' or '2' (at most {LARGEST_GRID}), not '{pooling[:40]}'."
        )
    return F.adaptive_avg_pool2d(activation, int(pooling)).flatten(1)


def pool_tokens(tokens: Tensor, grid: tuple[int, int], pooling: str) -> Tensor:
    """[B, N, D] -> [B, D * g * g]: the last h * w tokens are the patches of a ``grid`` (h, w); class tokens stand before.

    Where N is smaller (a hierarchical transformer merges patches), the tokens are a grid of the same proportions.
    """
    height, width = grid
    while height * width > tokens.shape[1] and height % 2 == 0 and width % 2 == 0:
        height, width = height // 2, width // 2
    if height * width > tokens.shape[1]:
        height, width = 1, tokens.shape[1]
    patches = tokens[:, tokens.shape[1] - height * width :].transpose(1, 2)
    return pool_grid(patches.reshape(*patches.shape[:2], height, width), pooling)


def taps_by_layer(taps: Sequence[Tap], layers: tuple[str, ...]) -> dict[str, list[Tap]]:
    """The taps that are wanted of each layer; SourceError for a layer that is not among ``layers``."""
    wanted: dict[str, list[Tap]] = {}
    for tap in taps:
        if tap.layer not in layers:
            raise SourceError(f"The source has no layer '{tap.layer}' to read; {nearest(tap.layer, layers)}")
        wanted.setdefault(tap.layer, []).append(tap)
    return wanted
