"""DF-TND: a Trojan betrays itself without any data (Wang et al. 2020, arXiv 2007.15802, section 5).

Random seeds are changed until they excite the neurons of a label as far as they go. A Trojan's target label can be
excited further than the others, because some neurons stand for the trigger.

In the paper a mask and a pattern are found together, with a price on the mask (eq. 6). At a price of zero they reach
every point of the pixel box, so that the search here runs over the box itself; with a price, targets were found less
often. The direction is a label's logit against the mean of all, its row of the last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reprogram.robustness.trojan.masks import Logits
from reprogram.threat import Threat, ascend

STEP = 0.1  # of the sign-gradient ascent, in pixels of [0, 1]


def data_free(logits: Logits, seeds: Tensor, wanted: Tensor, steps: int = 40) -> Tensor:
    """Gains [G] of the labels ``wanted`` [G] from seeds [n, C, H, W]: the largest rise of a label's logit over the mean.

    The paper takes the mean over the seeds; the largest is less at the mercy of seeds that get stuck.
    """
    aim = wanted.to(seeds.device).repeat_interleave(len(seeds))
    start = seeds.repeat(len(wanted), *[1] * (seeds.ndim - 1))

    def raised(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return _above_mean(logits(x), aim[rows]), torch.zeros(len(x), dtype=torch.bool, device=x.device)

    found = ascend(raised, start, Threat("linf", 1.0), steps, STEP)
    with torch.no_grad():
        gains = _above_mean(logits(found), aim) - _above_mean(logits(seeds).repeat(len(wanted), 1), aim)
    return gains.view(len(wanted), len(seeds)).amax(1)


def _above_mean(answers: Tensor, labels: Tensor) -> Tensor:
    return answers.gather(1, labels[:, None]).squeeze(1) - answers.mean(1)
