"""Neural Cleanse (Wang et al. 2019, IEEE S&P): for each label, the smallest trigger that sends everything there.

In a Trojaned model the target label's trigger is far smaller than that of the other labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.backdoor.detection.masks import Logits, Masks, MaskSearch, smallest_masks


@dataclass
class Recovered:
    """sizes [G]: share of the image that the mask of each label needs; the triggers themselves."""

    sizes: Tensor
    triggers: Masks


def recover(logits: Logits, images: Tensor, wanted: Tensor, search: MaskSearch, seed: int = 0) -> Recovered:
    """The smallest trigger of each of the labels ``wanted`` [G], from images [N, C, H, W] of any labels."""

    def objective(answers: Tensor) -> tuple[Tensor, Tensor]:
        groups, n, labels = answers.shape
        aim = wanted[:, None].expand(groups, n)
        losses = F.cross_entropy(answers.reshape(-1, labels), aim.reshape(-1), reduction="none").view(groups, n)
        return losses, answers.detach().argmax(2) == aim

    found = smallest_masks(logits, images, objective, len(wanted), shared=True, search=search, seed=seed)
    return Recovered(torch.where(found.reached, found.sizes, found.sizes.clamp(min=1.0)).squeeze(1), found)
