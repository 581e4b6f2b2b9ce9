"""What all image inputs share: grey becomes RGB, any size becomes the resolution that the source reads.

Order of pixel operations, the same for every method here (published code differs, and a learning rate means nothing
without it): target pixels in [0, 1] → resize or pad → prompt → clamp to [0, 1] → *the source* normalises. A prompt
therefore lives in pixel space, before normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import InputTransformation, SourceSpec, TargetInfo
from reprogram.modalities import check_source
from reprogram.pixels import resize, with_channels
from reprogram.ranges import InputSide

TRAINED_AT = 224  # pixels, where nobody says: most image models


@dataclass(eq=False)
class ImageInput(InputTransformation):
    """Base of the image inputs.

    size: side in pixels of what the source reads; None is the side it was trained at. A smaller one costs less.

    After :meth:`build`, ``side`` is that size and ``channels`` what the source reads.
    """

    size: InputSide | None = None

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if self.size is not None and not 8 <= self.size <= 2048:
            raise ConfigError(f"input.size is {self.size}; allowed: 8 to 2048 pixels")
        check_source(self.name, "image", spec)
        self.channels = spec.channels
        self.side = self.size or spec.size

    def work(self) -> float:
        """Pixels read."""
        return float((self.size or TRAINED_AT) ** 2)

    def plain(self, batch: Tensor, side: int | None = None) -> Tensor:
        """Target images as the source reads them, [B, channels, side, side], without any prompt."""
        return with_channels(resize(batch, side or self.side), self.channels)

    def forward(self, batch: Any) -> list[Any]:
        return [self.plain(batch)]


def add(images: Tensor, prompt: Tensor) -> Tensor:
    """Images plus a prompt, kept in [0, 1]: what a camera, a file or a remote service could carry."""
    return torch.clamp(images + prompt, 0.0, 1.0)
