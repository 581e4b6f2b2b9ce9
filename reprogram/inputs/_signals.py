"""What the input transformations of signals share: their options, planes as colours, plain features beside the picture."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from reprogram.errors import ConfigError, DataError, nearest
from reprogram.inputs._convolutions import competing
from reprogram.inputs._mel import cepstra, patches, relative_bands
from reprogram.inputs._patterns import TONES, patterns
from reprogram.inputs._proportions import proportions
from reprogram.inputs.base import with_channels
from reprogram.interfaces import InputTransformation, SourceSpec, Tap, TargetInfo
from reprogram.modalities import check_source, modality
from reprogram.modalities._signals import as_block, lengths, levels, of_length, resampled, standardised
from reprogram.ranges import InputSide

RAW, CONVOLVED, COUNTED = 256, 1024, 2048  # points at most that the raw series, convolutions and proportions read
FITTED = 2048  # points at most of the signal that an output fits thresholds on: thinned out, it has lost its fine shapes


@dataclass(eq=False)
class SignalInput(InputTransformation):
    """Base of the input transformations of signals: float [B, C, L], NaN where a value is missing or a signal has ended.

    size: side of the picture in pixels; None is the side that the source was trained at.
    features: plain features beside what the source reads, a hybrid program: ``raw`` (the series itself, at most 256 points
        of each channel), ``convolutions`` (random kernels, see :mod:`reprogram.inputs._convolutions`), ``proportions``
        (shares of time, :mod:`reprogram.inputs._proportions`), ``rocket`` (the signal itself, at most 2,048 points of each
        channel, for ``output=grouped_ridge`` to fit thresholds of MiniRocket on), ``levels`` (mean and deviation of each
        channel, and the length); of sounds ``log_mel``, ``log_mel_changes`` (a small mel spectrogram, the second less the
        mean of each band), ``mel_convolutions``, ``cepstral_convolutions``, ``mel_patterns`` and
        ``tone_patterns`` (:mod:`reprogram.inputs._patterns`).
    stretch: every signal fills the width, however long it is; false draws all on the time axis of the longest.

    After :meth:`build`: ``side``, ``channels`` of the source, ``signals`` (channels of the target), ``rate`` in samples a
    second (1 where nobody said) and ``length``, the longest signal of the target in samples.
    """

    size: InputSide | None = 96
    features: tuple[str, ...] = ()
    stretch: bool = True

    reads: ClassVar[str | None] = "series"

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        check_source(self.name, "image", spec)
        if target.input_shape is None or modality(target.kind).batch != "series":
            raise ConfigError(f"input={self.name} reads signals, but the target has {target.kind} inputs")
        for name in self.features:
            if name not in FEATURES:
                raise ConfigError(f"input.features has '{name}'; {nearest(name, FEATURES)}")
        self.side, self.channels = self.size or spec.size, spec.channels
        self.signals, self.rate, self.length = target.input_shape

    def work(self) -> float:
        """Pixels read."""
        return float((self.size or 224) ** 2)

    def each(self, block: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """``function`` of blocks [b, C, L] that do not depend on which signals share a batch: those of the target's lengths
        together, on its longest; a longer one by itself."""
        size = lengths(block)
        longer = torch.nonzero(size > self.length).squeeze(1)
        if not len(longer):
            return function(of_length(block, self.length))
        usual = torch.nonzero(size <= self.length).squeeze(1)
        parts = [function(of_length(block[usual], self.length))] if len(usual) else []
        parts += [function(of_length(block[row : row + 1], int(size[row]))) for row in longer]
        return torch.cat(parts)[torch.argsort(torch.cat([usual, longer]))]

    def block(self, batch: Any) -> Tensor:
        """[B, C, L]; DataError where the signals have other channels than those of the target."""
        found = as_block(batch)
        if found.ndim != 3 or found.shape[1] != self.signals:
            shape = list(found.shape[1:])
            raise DataError(f"The program reads signals of {self.signals} channels [C, L]; these are {shape}")
        return found

    def forward(self, batch: Any) -> list[Any]:
        return [self.each(self.block(batch), self._drawn)]

    def _drawn(self, block: Tensor) -> Tensor:
        return with_channels(laid_out(self.planes(block), self.side), self.channels)

    @abstractmethod
    def planes(self, block: Tensor) -> Tensor:
        """Signals [B, C, L] -> planes of the picture [B, P, h, w] in [0, 1]."""

    def side_features(self, batch: Any) -> dict[Tap, Tensor]:
        if not self.features:
            return {}
        block = self.block(batch)
        return {Tap(name, "side"): self.each(block, partial(FEATURES[name], self)) for name in self.features}


def _raw(reader: SignalInput, block: Tensor) -> Tensor:
    return resampled(block, min(reader.length, RAW), reader.stretch).flatten(1)


def _convolutions(reader: SignalInput, block: Tensor) -> Tensor:
    """Of one standardised channel; several channels keep their scales, which tell them from one another."""
    signals = resampled(block, min(reader.length, CONVOLVED), reader.stretch)
    return competing(standardised(signals) if signals.shape[1] == 1 else signals)


def _proportions(reader: SignalInput, block: Tensor) -> Tensor:
    return proportions(resampled(block, min(reader.length, COUNTED), reader.stretch))


def _rocket(reader: SignalInput, block: Tensor) -> Tensor:
    return resampled(block, min(reader.length, FITTED), reader.stretch).flatten(1)


FEATURES: dict[str, Callable[[SignalInput, Tensor], Tensor]] = {
    "raw": _raw,
    "convolutions": _convolutions,
    "proportions": _proportions,
    "rocket": _rocket,
    "levels": lambda reader, block: levels(block),
    "log_mel": lambda reader, block: patches(block, float(reader.rate), relative=False),
    "log_mel_changes": lambda reader, block: patches(block, float(reader.rate), relative=True),
    "mel_convolutions": lambda reader, block: competing(relative_bands(block, float(reader.rate))),
    "cepstral_convolutions": lambda reader, block: competing(cepstra(block, float(reader.rate))),
    "mel_patterns": lambda reader, block: patterns(block, float(reader.rate)),
    "tone_patterns": lambda reader, block: patterns(block, float(reader.rate), TONES),
}


def laid_out(planes: Tensor, side: int) -> Tensor:
    """Planes [B, P, h, w] as colours [B, 3, side, side]: one is grey, three are colours, more lie in tiles."""
    planes = planes.clamp(0, 1)  # interpolation rounds beyond
    count = planes.shape[1]
    if count == 1:
        return planes.expand(-1, 3, -1, -1)
    missing = -count % 3
    if missing:
        planes = torch.cat([planes, planes[:, :missing] if count >= missing else planes.repeat(1, missing, 1, 1)], 1)
    tiles = planes.unflatten(1, (-1, 3))
    rows = math.ceil(math.sqrt(tiles.shape[1]))
    columns = math.ceil(tiles.shape[1] / rows)
    if rows * columns == 1:
        return tiles[:, 0]
    blank = rows * columns - tiles.shape[1]
    if blank:
        tiles = torch.cat([tiles, torch.full_like(tiles[:, :1], 1.0).expand(-1, blank, -1, -1, -1)], 1)
    sheet = torch.cat([torch.cat(list(tiles[:, r * columns : (r + 1) * columns].unbind(1)), 3) for r in range(rows)], 2)
    if sheet.shape[-2:] == (side, side):
        return sheet
    return F.interpolate(sheet, size=(side, side), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
