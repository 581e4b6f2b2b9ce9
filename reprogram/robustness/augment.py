"""Random changes that make few images go further: shifts, and mixtures of two."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


def mixed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image blended with another one of the batch, in random parts (mixup, Zhang et al. 2018, arXiv 1710.09412)."""
    other = torch.randperm(len(images), generator=generator)
    part = torch.rand((len(images), 1, 1, 1), generator=generator).to(images)
    return part * images + (1 - part) * images[other]
