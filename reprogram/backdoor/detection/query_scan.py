"""What questions alone can show: random patches stamped on images, and whether one of them draws answers to one label.

For sources without gradients. It finds a patch Trojan only by luck, so that it is evidence and no test: no threshold.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def query_scan(
    answers: Callable[[Tensor], Tensor], images: Tensor, patches: int = 16, share: float = 0.15, seed: int = 0
) -> tuple[float, int]:
    """(largest share of images [N, C, H, W] that one patch moves to one label, that label); (patches + 1) N questions.

    share: side of a patch as a share of the image's; patches are black and white noise in the four corners in turn.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = images.shape[-2:]
    side = max(1, round(share * min(height, width)))
    clean = answers(images)
    worst = (0.0, int(clean[0]))
    for number in range(patches):
        stamped = images.clone()
        top, left = (number % 2) * (height - side), (number // 2 % 2) * (width - side)
        pattern = torch.randint(0, 2, (images.shape[1], side, side), generator=generator)
        stamped[..., top : top + side, left : left + side] = pattern.to(images)
        found = answers(stamped)
        moved = found[found != clean]
        if len(moved):
            counts = moved.bincount()
            worst = max(worst, (float(counts.max()) / len(images), int(counts.argmax())))
    return worst
