"""Signals as planes of a picture, as torch operations: batched, differentiable, any number of channels.

Every function maps signals [B, C, L] to planes [B, P, h, w] in [0, 1], up to rounding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reprogram.modalities._signals import TINY, resampled, sampled

MARGIN = 0.06  # of the height, above and below a line


def unit_range(values: Tensor) -> Tensor:
    """Each channel of each signal from 0 to 1; a constant one is 1/2."""
    low, high = values.amin(2, keepdim=True), values.amax(2, keepdim=True)
    return torch.where(high - low > TINY, (values - low) / (high - low).clamp_min(TINY), torch.full_like(values, 0.5))


def line(block: Tensor, side: int, width: float = 1.0, stretch: bool = True) -> Tensor:
    """Dark lines on white, [B, C, side, side]: in each column from the lowest to the highest value around it."""
    fine = max(4, math.ceil(block.shape[2] / side))
    values = unit_range(sampled(block, side * fine + 1, stretch))
    rows = (1.0 - MARGIN - (1.0 - 2 * MARGIN) * values) * (side - 1)
    columns = rows.unfold(2, fine + 1, fine)  # neighbours share a point, so the line has no gaps
    top, bottom = columns.amin(3), columns.amax(3)
    grid = torch.arange(side, device=block.device, dtype=rows.dtype)[None, None, :, None]
    away = (top[:, :, None] - grid).clamp_min(0) + (grid - bottom[:, :, None]).clamp_min(0)
    return (away / width).clamp(0, 1)


def gramian_fields(block: Tensor, side: int, stretch: bool = True) -> tuple[Tensor, Tensor]:
    """Summation and difference fields [B, C, side, side] (Wang & Oates 2015, arXiv 1506.00327)."""
    x = unit_range(resampled(block, side, stretch)) * 2 - 1
    other = (1 - x * x).clamp_min(0)
    other = (other + 1e-12).sqrt()
    summed = x[..., :, None] * x[..., None, :] - other[..., :, None] * other[..., None, :]
    apart = other[..., :, None] * x[..., None, :] - x[..., :, None] * other[..., None, :]
    return ((summed + 1) / 2).clamp(0, 1), ((apart + 1) / 2).clamp(0, 1)


def recurrences(block: Tensor, side: int, delays: tuple[int, ...] = (1, 2, 4), dims: int = 3, stretch: bool = True) -> Tensor:
    """Distances between delay vectors of all channels, [B, len(delays), side, side] (Eckmann et al. 1987), 0 to 1."""
    x = resampled(block, side, stretch)
    x = x - x.mean(2, keepdim=True)
    x = x / x.flatten(1).std(1).clamp_min(TINY)[:, None, None]
    planes = []
    for delay in delays:
        parts = [F.pad(x, (0, delay * d), mode="replicate")[..., delay * d : delay * d + side] for d in range(dims)]
        points = torch.cat(parts, 1).transpose(1, 2)
        squares = points.square().sum(2)
        gap = (squares[:, :, None] + squares[:, None, :] - 2 * points @ points.transpose(1, 2)).clamp_min(0)
        gap = (gap + 1e-8).sqrt()
        planes.append((gap / gap.flatten(1).amax(1).clamp_min(TINY)[:, None, None]).clamp(0, 1))
    return torch.stack(planes, 1)


def magnitudes(signals: Tensor, window: int, hop: int, mirror: bool = True) -> Tensor:
    """|STFT| [B, C, F, T] with a Hann window; the edges are mirrored, or else silence lies beyond them."""
    batch, channels, length = signals.shape
    flat = signals.reshape(batch * channels, 1, length)
    mode = "constant" if not mirror else "reflect" if length > window // 2 else "replicate"
    flat = F.pad(flat, (window // 2, window // 2), mode=mode)[:, 0]
    taper = torch.hann_window(window, device=signals.device, dtype=signals.dtype)
    found = torch.stft(flat, window, hop, window, taper, center=False, return_complex=True)
    return found.abs().reshape(batch, channels, *found.shape[1:])


def decibels(power: Tensor, floor: float = 60.0) -> Tensor:
    """Logarithm of magnitudes, 0 to 1 over ``floor`` decibels below the loudest of each signal."""
    loud = power.flatten(1).amax(1).clamp_min(TINY)[:, None, None, None]
    return (1 + 20 * torch.log10(power / loud + 1e-7) / floor).clamp(0, 1)


def spectra(block: Tensor, side: int, windows: tuple[float, ...] = (1 / 16, 1 / 8, 1 / 4), stretch: bool = True) -> Tensor:
    """Log spectrograms of several windows (shares of the length), [B, C * len(windows), side, side]."""
    length = min(max(block.shape[2], 2 * side), 2048)
    x = sampled(block, length, stretch)
    x = x - x.mean(2, keepdim=True)
    planes = []
    for share in windows:
        window = max(8, 2 * round(length * share / 2))
        found = decibels(magnitudes(x, window, max(1, length // (2 * side))))
        planes.append(F.interpolate(found, size=(side, side), mode="bilinear", antialias=True).flip(2))
    return torch.cat(planes, 1)
