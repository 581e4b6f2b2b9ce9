"""A sound relative to itself: what a voice, a room or a microphone adds to all of it is gone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reprogram.inputs._mel import CONTRAST, FLOOR, over_bands
from reprogram.inputs.mel_spectrogram import MelSpectrogram

STEP = 2  # columns on either side that a change is measured over


@dataclass(eq=False)
class MelChanges(MelSpectrogram):
    """The mel spectrogram in red, the same less the mean of each band in green (cepstral mean normalisation, Atal 1974), its
    change in time in blue."""

    def drawn(self, level: Tensor) -> Tensor:
        later = F.pad(level[..., 2 * STEP :] - level[..., : -2 * STEP], (STEP, STEP))
        return torch.stack([1 + level / FLOOR, over_bands(level) / CONTRAST + 0.5, later / CONTRAST + 0.5], 1)
