"""The smallest mask and pattern that change a model's answers, for many labels or images in one tensor.

    x' = (1 - m) x + m d,   m in [0, 1] one plane, d in the range of the pixels

as in Neural Cleanse (Wang et al. 2019) and DL-TND (Wang et al. 2020, arXiv 2007.15802, eq. 1). The price of a mask
follows each search by itself: it rises while enough examples are fooled and falls while they are not, which takes the
place of a bisection over prices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.ranges import Checked, Count, NotNegative, Positive, PositiveShare

Logits = Callable[[Tensor], Tensor]
Objective = Callable[[Tensor], tuple[Tensor, Tensor]]  # logits [G, N, S] -> losses [G, N], fooled [G, N]
STEEP = 4.0  # of the sigmoids at the start of a search: masks begin at sigmoid(-STEEP / 2)


@dataclass(frozen=True)
class MaskSearch(Checked):
    """steps: of Adam at ``rate``. goal: share of the examples that must be fooled for a mask to count.

    price: of a mask over the whole image, at the start. up, down: factors that the price is multiplied with.
    """

    steps: Count = 60
    rate: Positive = 0.3
    goal: PositiveShare = 0.9
    price: NotNegative = 1.0
    up: Positive = 1.15
    down: Positive = 0.8


@dataclass
class Masks:
    """The smallest masks that reached the goal; where none did, the last try.

    masks [G, M, 1, H, W], patterns [G, M, C, H, W], sizes [G, M] (share of the image), reached [G, M]: M is 1 for a
    mask that all images of a group share, N for one an image.
    """

    masks: Tensor
    patterns: Tensor
    sizes: Tensor
    reached: Tensor

    def apply(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> [G, N, C, H, W]."""
        return (1 - self.masks) * images + self.masks * self.patterns


def smallest_masks(
    logits: Logits, images: Tensor, objective: Objective, groups: int, shared: bool, search: MaskSearch, seed: int = 0
) -> Masks:
    """G searches over images [N, C, H, W] side by side; ``shared``: one mask for all images of a group."""
    n, channels, height, width = images.shape
    wide = 1 if shared else n
    generator = torch.Generator().manual_seed(seed)
    raw_mask = torch.full((groups, wide, 1, height, width), -STEEP / 2)
    raw_pattern = torch.randn((groups, wide, channels, height, width), generator=generator)
    free = [t.to(images).requires_grad_(True) for t in (raw_mask, raw_pattern)]
    optimiser = torch.optim.Adam(free, search.rate, betas=(0.5, 0.9))
    price = torch.full((groups, wide), search.price).to(images)
    best = Masks(
        free[0].detach().sigmoid(), free[1].detach().sigmoid(), torch.full_like(price, torch.inf),
        torch.zeros_like(price, dtype=torch.bool),
    )  # fmt: skip
    for _ in range(search.steps):
        mask, pattern = free[0].sigmoid(), free[1].sigmoid()
        tried = Masks(mask, pattern, mask.mean((2, 3, 4)), best.reached)
        losses, fooled = objective(logits(tried.apply(images).flatten(0, 1)).view(groups, n, -1))
        share = fooled.float().mean(1, keepdim=True) if shared else fooled.float()
        reached = share >= search.goal
        _keep(best, tried, reached)
        value = losses.mean(1).sum() if shared else losses.sum()
        optimiser.zero_grad()
        (value + (price * tried.sizes).sum()).backward()
        optimiser.step()
        price = torch.where(reached, price * search.up, price * search.down)
    best.sizes = torch.where(best.reached, best.sizes, best.masks.mean((2, 3, 4)).clamp(min=tried.sizes.detach()))
    return best


@torch.no_grad()
def _keep(best: Masks, tried: Masks, reached: Tensor) -> None:
    better = (reached & (tried.sizes < best.sizes)) | ~(best.reached | reached)
    wide = better[..., None, None, None]
    best.masks = torch.where(wide, tried.masks, best.masks)
    best.patterns = torch.where(wide, tried.patterns, best.patterns)
    best.sizes = torch.where(reached & better, tried.sizes, best.sizes)
    best.reached = best.reached | reached


def lead(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of ``labels`` [G, N] (or a shape that broadcasts) minus the best other one, [G, N], of logits [G, N, S]."""
    labels = labels.expand(logits.shape[:2])[..., None]
    others = logits.scatter(2, labels, float("-inf")).amax(2)
    return logits.gather(2, labels).squeeze(2) - others
