"""Images [B, C, H, W] of another size or with other channels: one way for all parts."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from reprogram.errors import ConfigError


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Height and width ``size``, bilinear with antialiasing: a large image is averaged, not sampled."""
    wanted = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == wanted:
        return images
    return F.interpolate(images, size=wanted, mode="bilinear", antialias=True, align_corners=False)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Grey repeated over ``channels``, colour averaged to grey where the source reads one channel."""
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    if channels == 1:
        return images.mean(1, keepdim=True)
    raise ConfigError(f"The source reads {channels} channels but the target images have {images.shape[1]}; allowed: 1")
