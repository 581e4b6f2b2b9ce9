"""Images of a user in the size and colours that a source reads."""

from __future__ import annotations

from torch import Tensor

from reprogram.pixels import resize, with_channels


def as_read(images: Tensor, channels: int, side: int) -> Tensor:
    """[B, C, H, W] -> [B, channels, side, side]: grey is repeated for a colour source, colour averaged for a grey one."""
    return with_channels(resize(images, side), channels)
