"""DL-TND: a Trojan's target label betrays itself in few clean examples (Wang et al. 2020, arXiv 2007.15802, section 4).

For every label k, a *universal* mask pushes images off their labels while images of k stay (eq. 2), and *per-image*
masks push each image to k (eq. 3). In a Trojaned model both take the shortcut of the trigger where k is its target, so
that the model reads both in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.backdoor.detection.masks import Logits, Masks, MaskSearch, lead, smallest_masks

TAU = 10.0  # margins beyond this one earn nothing
QUANTILE = 0.25  # of the similarities of a label's images
GOAL = 0.7  # share of the images that a universal mask must move


@dataclass
class DataLimited:
    """similarity [G]: quantile of the cosine between logits under both perturbations, over images of other labels.

    sizes [G]: share of the image that the universal mask needs. universal, own: the masks.
    """

    similarity: Tensor
    sizes: Tensor
    universal: Masks
    own: Masks


def data_limited(
    logits: Logits, images: Tensor, labels: Tensor, wanted: Tensor, search: MaskSearch, seed: int = 0
) -> DataLimited:
    """Indices of the labels ``wanted`` [G] from a few clean examples: images [N, C, H, W], labels [N]."""
    kept = labels[None] == wanted[:, None]

    def universal(answers: Tensor) -> tuple[Tensor, Tensor]:
        margin = lead(answers, labels[None])
        losses = torch.where(kept, -margin, margin)
        return losses.clamp(min=-TAU), losses.detach() <= 0

    def own(answers: Tensor) -> tuple[Tensor, Tensor]:
        losses = -lead(answers, wanted[:, None])
        return losses.clamp(min=-TAU), losses.detach() <= 0

    count = len(wanted)
    one = smallest_masks(logits, images, universal, count, True, replace(search, goal=GOAL), seed)
    each = smallest_masks(logits, images, own, count, False, search, seed)
    with torch.no_grad():
        read = [logits(found.apply(images).flatten(0, 1)).view(count, len(images), -1) for found in (one, each)]
    alike = F.cosine_similarity(read[0], read[1], dim=2).masked_fill(kept, torch.nan)
    sizes = torch.where(one.reached, one.sizes, one.sizes.clamp(min=1.0)).squeeze(1)
    return DataLimited(alike.nanquantile(QUANTILE, dim=1), sizes, one, each)


def detection_index(similarity: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """[K], larger is more suspicious: how much smaller than the median a label's universal mask is, and how alike it is read.

    The paper puts a threshold on the similarity alone; among small models, whose similarities are all high, the size of
    the universal mask tells more, and both together most.
    """
    size = np.log(sizes + 1e-4)
    return np.median(size) - size - 0.25 * np.log(1.01 - np.clip(similarity, -1, 1))
