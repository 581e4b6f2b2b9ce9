"""DF-TND: find a Trojan without any data (Wang et al. 2020, arXiv 2007.15802, section 5).

Random inputs are optimised to maximise the activation of the neurons of a label. The target label of a Trojan reaches a
larger activation than the others, because some neurons respond to the trigger.

In the paper a mask and a pattern are found together, with a price on the l1 norm of the mask (eq. 6). Here the change
itself is held in an l1 ball, which needs no price: few pixels, as much as they can. Without a limit every label of a
clean model reaches about the activation of a Trojan's target. The direction is a label's logit against the mean of all, its
row of the last layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reprogram.backdoor.detection.masks import Logits
from reprogram.threat import Threat, ascend

PIXELS, SHARE = 4.0, 0.01  # l1 size: so many values of [0, 1] from end to end, or this share of them in large images
STEPS_ACROSS = 8  # a step is this part of the size


def data_free(logits: Logits, seeds: Tensor, wanted: Tensor, steps: int = 40) -> Tensor:
    """Gains [G] of the labels ``wanted`` [G] from seeds [n, C, H, W]: how far a label's logit rises over the mean.

    The paper takes the mean over the seeds; the mean over the better half is less at the mercy of seeds that get stuck.
    """
    aim = wanted.to(seeds.device).repeat_interleave(len(seeds))
    start = seeds.repeat(len(wanted), *[1] * (seeds.ndim - 1))

    def raised(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return _above_mean(logits(x), aim[rows]), torch.zeros(len(x), dtype=torch.bool, device=x.device)

    size = max(PIXELS, SHARE * seeds[0].numel())
    found = ascend(raised, start, Threat("l1", size), steps, size / STEPS_ACROSS)
    with torch.no_grad():
        gains = _above_mean(logits(found), aim) - _above_mean(logits(seeds).repeat(len(wanted), 1), aim)
    best = gains.view(len(wanted), len(seeds)).topk((len(seeds) + 1) // 2, dim=1).values
    return best.mean(1)


def _above_mean(answers: Tensor, labels: Tensor) -> Tensor:
    return answers.gather(1, labels[:, None]).squeeze(1) - answers.mean(1)
