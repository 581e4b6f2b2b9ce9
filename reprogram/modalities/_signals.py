"""What every part that touches signals shares: [B, C, L] blocks, missing values, one time axis for all.

A batch of signals is float [B, C, L]: C channels of L samples. Shorter signals end in NaN, a NaN between values is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

TINY = 1e-6


def as_block(batch: Any) -> Tensor:
    """float32 [B, C, L]; a list of signals [C, l] is padded with NaN to the longest."""
    if isinstance(batch, Tensor):
        return batch.float()
    return torch.from_numpy(pad([np.asarray(signal, dtype=np.float32) for signal in batch]))


def pad(signals: Sequence[np.ndarray], length: int = 0) -> np.ndarray:
    """Signals [C, l] as float32 [B, C, L], NaN behind the shorter ones; L is at least ``length``."""
    longest = max(length, max((signal.shape[1] for signal in signals), default=1))
    channels = signals[0].shape[0] if len(signals) else 1
    block = np.full((len(signals), channels, longest), np.nan, dtype=np.float32)
    for row, signal in enumerate(signals):
        block[row, :, : signal.shape[1]] = signal
    return block


def of_length(block: Tensor, length: int) -> Tensor:
    """[B, C, length] with NaN behind the ends; no signal may be longer."""
    if block.shape[2] >= length:
        return block[..., :length]
    return torch.nn.functional.pad(block, (0, length - block.shape[2]), value=float("nan"))


def lengths(block: Tensor) -> Tensor:
    """[B] samples of each signal up to its last value in any channel; at least 1."""
    known = torch.isfinite(block).any(1)
    steps = torch.arange(1, block.shape[2] + 1, device=block.device)
    return (known * steps).amax(1).clamp_min(1)


def filled(block: Tensor) -> Tensor:
    """Missing values replaced: on the line between the nearest known ones, the last value behind the end, 0 without any.

    Gradients reach the known values.
    """
    known = torch.isfinite(block)
    if bool(known.all()):
        return block
    steps = torch.arange(block.shape[2], device=block.device).expand_as(known)
    before = torch.where(known, steps, -1).cummax(2).values
    after = torch.where(known, steps, block.shape[2]).flip(2).cummin(2).values.flip(2)
    left = torch.where(before >= 0, before, after).clamp(0, block.shape[2] - 1)
    right = torch.where(after < block.shape[2], after, left)
    values = torch.where(known, block, 0.0)
    low, high = values.gather(2, left), values.gather(2, right)
    share = (steps - left) / (right - left).clamp_min(1)
    return torch.where(known, values, low + (high - low) * share.clamp(0, 1))


def sampled(block: Tensor, count: int, stretch: bool = True) -> Tensor:
    """Filled [B, C, count], read by linear interpolation at evenly spaced times; what lies between them is lost.

    stretch: each signal from its own first to its own last sample; else all on the time axis of the longest.
    """
    whole = filled(block)
    size = lengths(block) if stretch else torch.full((len(block),), block.shape[2], device=block.device)
    place = torch.linspace(0.0, 1.0, count, device=block.device)[None] * (size[:, None] - 1)
    low = place.floor().long().clamp(0, block.shape[2] - 1)
    high = (low + 1).clamp(max=block.shape[2] - 1)
    share = (place - low)[:, None].to(whole.dtype)
    shape = (len(block), block.shape[1], count)
    first, second = (whole.gather(2, index[:, None].expand(shape)) for index in (low, high))
    return first + (second - first) * share


def resampled(block: Tensor, count: int, stretch: bool = True) -> Tensor:
    """As :func:`sampled`; a signal that is thinned out is averaged."""
    fine = max(1, -(-block.shape[2] // count))  # points read for one that is given
    found = sampled(block, count * fine, stretch)
    return found.unflatten(2, (count, fine)).mean(3) if fine > 1 else found


def standardised(block: Tensor) -> Tensor:
    """Each channel of each signal with mean 0 and deviation 1 over its known values; a constant one is 0."""
    known = torch.isfinite(block)
    count = known.sum(2, keepdim=True).clamp_min(1)
    values = torch.where(known, block, 0.0)
    middle = values.sum(2, keepdim=True) / count
    spread = (torch.where(known, values - middle, 0.0).square().sum(2, keepdim=True) / count).sqrt()
    return torch.where(known, (block - middle) / spread.clamp_min(TINY), block)


def levels(block: Tensor) -> Tensor:
    """[B, 2 · C + 1]: mean and logarithm of the deviation of each channel, logarithm of the length."""
    known = torch.isfinite(block)
    count = known.sum(2).clamp_min(1)
    values = torch.where(known, block, 0.0)
    middle = values.sum(2) / count
    spread = (torch.where(known, values - middle[..., None], 0.0).square().sum(2) / count).sqrt()
    return torch.cat([middle, (spread + TINY).log(), lengths(block)[:, None].to(block).log()], 1)
