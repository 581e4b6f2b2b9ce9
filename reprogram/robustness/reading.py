"""Images of a user in the size and colours that a source reads."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def as_read(images: Tensor, channels: int, side: int) -> Tensor:
    """[B, C, H, W] -> [B, channels, side, side]: grey is repeated for a colour source, colour averaged for a grey one."""
    if images.shape[-2:] != (side, side):
        images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    if images.shape[1] == channels:
        return images
    return images.mean(1, keepdim=True).expand(-1, channels, -1, -1)
