"""The largest margin that an input can have, label by label, without any data (after MM-BD, Wang et al. 2024, arXiv 2205.06900).

A label that a Trojan targets can be answered with far more confidence than the others, whatever the trigger looks like. MM-BD
looks through all inputs; here the input stays in an l2 ball around noise, half as large as the range of the pixels, which
among small networks tells Trojaned ones apart better (docs/results/inspection.md has both).
"""

from __future__ import annotations

import torch
from torch import Tensor

from reprogram.backdoor.detection.masks import Logits
from reprogram.robustness.losses import margin
from reprogram.threat import Threat, ascend

SIZE = 0.5  # of the ball: root mean square over the pixels
STEPS_ACROSS, STEPS_ANYWHERE = 5, 10  # a step is this part of the size


def maximum_margin(logits: Logits, seeds: Tensor, wanted: Tensor, steps: int) -> Tensor:
    """:func:`largest_margin` within the ball that the test uses."""
    return largest_margin(logits, seeds, wanted, steps, SIZE)


def largest_margin(logits: Logits, seeds: Tensor, wanted: Tensor, steps: int, size: float | None) -> Tensor:
    """[G]: how far the logit of each of the labels ``wanted`` [G] rises above the best other one, mean over the seeds.

    seeds [n, C, H, W]: random images. size: of the ball, root mean square over the pixels; None: any image, as in the paper.
    """
    aim = wanted.to(seeds.device).repeat_interleave(len(seeds))
    start = seeds.repeat(len(wanted), *[1] * (seeds.ndim - 1))

    def raised(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return -margin(logits(x), aim[rows]), torch.zeros(len(x), dtype=torch.bool, device=x.device)

    threat = Threat("linf", 1.0) if size is None else Threat("l2", size * seeds[0].numel() ** 0.5)
    found = ascend(raised, start, threat, steps, threat.eps / (STEPS_ACROSS if size is not None else STEPS_ANYWHERE))
    with torch.no_grad():
        return -margin(logits(found), aim).view(len(wanted), len(seeds)).mean(1)
