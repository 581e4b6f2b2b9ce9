"""Sounds on the mel scale, as torch operations: frames of log energies, without the silence around them."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from reprogram.inputs._signal_planes import magnitudes
from reprogram.modalities._signals import TINY, filled, lengths

WINDOW, HOP = 0.032, 0.004  # seconds
LONGEST = 4096  # frames of a sound; a longer one has a longer hop
PATCH, CEPSTRAL_BANDS, COARSE_BANDS = 32, 24, 12  # bands of plain features
FLOOR = 60.0  # decibels below the loudest that are seen
CONTRAST = 80.0  # decibels from black to white of what is relative to a band's mean
SILENCE = 35.0  # decibels below the loudest frame: what begins and ends with less is cut


def log_mel(block: Tensor, rate: float, bands: int, window: float = WINDOW, warp: float = 1.0) -> tuple[Tensor, Tensor]:
    """Signals [B, C, L] -> decibels [B, bands, T] below the loudest, at least -FLOOR, channels averaged; frames [B, 2]:
    the first and the last one that is no silence. warp: of the frequency axis, 1 for none."""
    size = lengths(block)
    sound = filled(block).mean(1, keepdim=True)
    steps = torch.arange(block.shape[2], device=block.device)
    sound = torch.where(steps < size[:, None, None], sound, 0.0)
    width = max(16, round(rate * window))
    hop = max(1, round(rate * HOP), math.ceil(block.shape[2] / LONGEST))
    energy = magnitudes(sound, width, hop, mirror=False)[:, 0].square()
    found = mel_bank(bands, energy.shape[1], rate, warp).to(energy) @ energy
    loudest = found.flatten(1).amax(1).clamp_min(TINY**2)[:, None, None]
    level = (10 * torch.log10(found / loudest + 1e-8)).clamp_min(-FLOOR)
    return level, _heard(energy.sum(1), size, hop)


def _heard(energy: Tensor, size: Tensor, hop: int) -> Tensor:
    """[B, 2] first and last frame that is no silence, from the energy of frames [B, T]."""
    frames = torch.arange(energy.shape[1], device=energy.device)
    smooth = F.avg_pool1d(energy[:, None], 5, 1, 2)[:, 0]
    loud = (smooth > smooth.amax(1, keepdim=True) * 10 ** (-SILENCE / 10)) & (frames <= (size / hop)[:, None])
    first = torch.where(loud, frames, energy.shape[1]).amin(1)
    last = torch.where(loud, frames, -1).amax(1)
    none = last < 0
    first = torch.where(none, 0, first)
    last = torch.where(none, (size // hop).clamp(max=energy.shape[1] - 1), last)
    return torch.stack([first, last.maximum(first)], 1)


def columns(frames: Tensor, ends: Tensor, count: int) -> Tensor:
    """Frames [B, M, T] between ``ends`` [B, 2] on ``count`` columns: linear interpolation, averaged where it thins out.

    Read so finely that no frame is missed even where all are heard, for every sound alike: none depends on the others."""
    fine = max(1, math.ceil(frames.shape[2] / count))
    share = (torch.arange(count * fine, device=frames.device) + 0.5) / (count * fine)
    place = ends[:, :1] + share * (ends[:, 1:] - ends[:, :1])
    low = place.floor().long().clamp(0, frames.shape[2] - 1)
    high = (low + 1).clamp(max=frames.shape[2] - 1)
    shape = (len(frames), frames.shape[1], count * fine)
    first, second = (frames.gather(2, index[:, None].expand(shape)) for index in (low, high))
    return (first + (second - first) * (place - low)[:, None].to(frames)).unflatten(2, (count, fine)).mean(3)


def over_bands(level: Tensor) -> Tensor:
    """Decibels [B, M, T] less the mean of each band: what a voice or a microphone adds to all of a sound is gone."""
    return level - level.mean(2, keepdim=True)


@lru_cache(maxsize=32)
def mel_bank(bands: int, bins: int, rate: float, warp: float = 1.0) -> Tensor:
    """Triangles [bands, bins] evenly spaced on the mel scale (O'Shaughnessy 1987) up to half the rate."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1) * warp
    grid = torch.linspace(0, rate / 2, bins)[None]
    low, middle, high = (edges[i : i + bands, None] for i in range(3))
    width = rate / 2 / max(bins - 1, 1)  # a triangle narrower than a bin still has one
    rise = (grid - low) / (middle - low).clamp_min(width)
    fall = (high - grid) / (high - middle).clamp_min(width)
    return torch.minimum(rise, fall).clamp_min(0)


def patches(block: Tensor, rate: float, relative: bool) -> Tensor:
    """[B, 1024] a small spectrogram of 32 bands and 32 columns, 0 to 1; relative: less the mean of each band."""
    level, ends = log_mel(block, rate, PATCH)
    seen = columns(level, ends, PATCH)
    return (over_bands(seen) / CONTRAST + 0.5 if relative else 1 + seen / FLOOR).flatten(1)


def relative_bands(block: Tensor, rate: float) -> Tensor:
    """[B, 12, 96] twelve bands less their means, deviation about 1: a signal of 12 channels."""
    level, ends = log_mel(block, rate, COARSE_BANDS)
    return over_bands(columns(level, ends, 96)) / 20.0


def cepstra(block: Tensor, rate: float) -> Tensor:
    """[B, 13, 96] cepstral coefficients of the bands less their means, deviation about 1: a signal of 13 channels."""
    level, ends = log_mel(block, rate, CEPSTRAL_BANDS)
    seen = over_bands(columns(level, ends, 96))
    place = torch.arange(CEPSTRAL_BANDS, device=block.device) + 0.5
    waves = torch.cos(math.pi / CEPSTRAL_BANDS * place[None] * torch.arange(1, 14, device=block.device)[:, None])
    return waves.to(seen) @ seen / 30.0
