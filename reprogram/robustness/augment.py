"""Random changes that make few images go further: shifts, smooth bends, and mixtures of two."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to ``most`` pixels, the border repeated."""
    if not most:
        return images
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    n, height, width = len(images), *images.shape[-2:]
    top, left = torch.randint(0, 2 * most + 1, (2, n), generator=generator)
    rows, columns = top[:, None] + torch.arange(height), left[:, None] + torch.arange(width)
    picked = padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [n, h, w, C]
    return picked.permute(0, 3, 1, 2).contiguous()


def bent(images: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Each image under a smooth random displacement of at most ``most`` of its half side, the border repeated."""
    if not most:
        return images
    coarse = most * (2 * torch.rand((len(images), 2, 4, 4), generator=generator) - 1).to(images)
    moved = F.interpolate(coarse, images.shape[-2:], mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    still = F.affine_grid(torch.eye(2, 3).to(images).expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, still + moved, padding_mode="border", align_corners=False)


def mixed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image blended with another one of the batch, in random parts (mixup, Zhang et al. 2018, arXiv 1710.09412)."""
    other = torch.randperm(len(images), generator=generator)
    part = torch.rand((len(images), 1, 1, 1), generator=generator).to(images)
    return part * images + (1 - part) * images[other]
