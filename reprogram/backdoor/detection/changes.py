"""The smallest universal change of one kind that a group of images needs to be read otherwise, for many groups at once.

Neural Cleanse (Wang et al. 2019) looks for a small mask. A trigger may lie over the whole image (blended, brighter, a wave)
or move its pixels (warped), so the same search is made for other kinds of change: a pattern that is added (a universal
perturbation, Moosavi-Dezfooli et al. 2017, arXiv 1610.08401) and a smooth warp (as WaNet's, arXiv 2102.10369). A group
goes either to one label (all-to-one Trojans) or off its own labels (all-to-all and source-conditional ones).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from reprogram.backdoor.detection.masks import STEEP, Logits

GOAL = 0.8  # share of a group that must be read otherwise
UP, DOWN = 1.15, 0.8  # factors of the price of a change while the goal is reached, and while it is not
CELLS = 4  # side of the control grid of a warp
BETAS = (0.5, 0.9)


@dataclass(frozen=True)
class Group:
    """rows: of the images. label: where they are to go; None: anywhere but to their own labels."""

    rows: Tensor
    label: int | None = None


class Change(ABC):
    """One universal change a group; ``free`` [G, ...] is what the search moves.

    rate: of Adam. price: of a change of size 1, at the start. largest: the size that a change without success counts as.
    """

    rate: ClassVar[float]
    price: ClassVar[float]
    largest: ClassVar[float]
    free: list[Tensor]

    @abstractmethod
    def apply(self, group: Tensor, images: Tensor) -> Tensor:
        """Images [P, C, H, W], each with the change of its group [P]."""

    @abstractmethod
    def sizes(self) -> Tensor:
        """[G], differentiable."""


class Mask(Change):
    """A part of the image replaced; size: its share."""

    rate, price, largest = 0.3, 1.0, 1.0

    def __init__(self, groups: int, like: Tensor, generator: torch.Generator) -> None:
        _, channels, height, width = like.shape
        mask = torch.full((groups, 1, height, width), -STEEP / 2)
        pattern = torch.randn((groups, channels, height, width), generator=generator)
        self.free = [t.to(like).requires_grad_(True) for t in (mask, pattern)]

    def apply(self, group: Tensor, images: Tensor) -> Tensor:
        mask, pattern = (t.sigmoid()[group] for t in self.free)
        return (1 - mask) * images + mask * pattern

    def sizes(self) -> Tensor:
        return self.free[0].sigmoid().mean((1, 2, 3))


class Pattern(Change):
    """Something added to every image; size: its root mean square, in pixels of [0, 1]."""

    rate, price, largest = 0.03, 5.0, 1.0

    def __init__(self, groups: int, like: Tensor, generator: torch.Generator) -> None:
        drawn = 0.02 * torch.randn((groups, *like.shape[1:]), generator=generator)
        self.free = [drawn.to(like).requires_grad_(True)]

    def apply(self, group: Tensor, images: Tensor) -> Tensor:
        return (images + self.free[0][group]).clamp(0, 1)

    def sizes(self) -> Tensor:
        return (self.free[0].square().mean((1, 2, 3)) + 1e-8).sqrt()


class Warp(Change):
    """Pixels moved smoothly; size: how far on average, in sixteenths of the width."""

    rate, price, largest = 0.2, 0.3, 4.0

    def __init__(self, groups: int, like: Tensor, generator: torch.Generator) -> None:
        height, width = like.shape[-2:]
        drawn = 0.2 * torch.randn((groups, 2, CELLS, CELLS), generator=generator)
        self.free = [drawn.to(like).requires_grad_(True)]
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        self.plain = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)[None].to(like)
        self.width = width

    def apply(self, group: Tensor, images: Tensor) -> Tensor:
        moves = F.interpolate(self.free[0], images.shape[-2:], mode="bicubic", align_corners=True)
        grid = (self.plain + moves.permute(0, 2, 3, 1) * 2 / self.width).clamp(-1, 1)
        return F.grid_sample(images, grid[group], padding_mode="border", align_corners=True)

    def sizes(self) -> Tensor:
        return self.free[0].abs().mean((1, 2, 3)) * 16 / self.width


@dataclass
class SmallestChanges:
    """sizes [G] of the smallest change that reached the goal; aims [G]: the label that it moved most images to."""

    sizes: Tensor
    aims: Tensor


def smallest_changes(
    logits: Logits, images: Tensor, labels: Tensor, groups: list[Group], kind: type[Change], steps: int, seed: int = 0
) -> SmallestChanges:
    """One search a group, side by side, over clean images [N, C, H, W] with their labels [N].

    A group without images counts as one that nothing moves.
    """
    group = torch.cat([torch.full((len(g.rows),), i) for i, g in enumerate(groups)]).to(images.device)
    rows = torch.cat([g.rows for g in groups]).to(images.device)
    there = torch.tensor([g.label is not None for g in groups], device=images.device)[group]
    wanted = torch.tensor([-1 if g.label is None else g.label for g in groups], device=images.device)[group]
    named = torch.where(there, wanted, labels[rows])  # the label to reach, or to leave
    count = group.bincount(minlength=len(groups)).clamp(min=1)
    change = kind(len(groups), images, torch.Generator().manual_seed(seed))  # type: ignore[call-arg]
    optimiser = torch.optim.Adam(change.free, kind.rate, betas=BETAS)
    price = torch.full((len(groups),), kind.price).to(images)
    best = torch.full_like(price, torch.inf)
    aims = torch.zeros(len(groups), dtype=torch.long, device=images.device)
    for _ in range(steps if len(rows) else 0):
        answers = logits(change.apply(group, images[rows]))
        losses, moved = _asked(answers, named, there)
        sizes = change.sizes()
        reached = _sums(moved.to(price), group, price) / count >= GOAL
        better = reached & (sizes.detach() < best)
        best = torch.where(better, sizes.detach(), best)
        aims = torch.where(better, _most_frequent(answers.detach(), moved, group, len(groups)), aims)
        optimiser.zero_grad()
        ((_sums(losses, group, price) / count).sum() + (price * sizes).sum()).backward()
        optimiser.step()
        price = torch.where(reached, price * UP, price * DOWN)
    return SmallestChanges(best.clamp(max=kind.largest), aims)


def _asked(answers: Tensor, named: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Losses [P] (minus the logarithm of the chance of what is asked), and which are as asked."""
    everything, own = answers.logsumexp(1), answers.gather(1, named[:, None]).squeeze(1)
    others = answers.scatter(1, named[:, None], float("-inf")).logsumexp(1)
    is_named = answers.detach().argmax(1) == named
    return torch.where(there, everything - own, everything - others), is_named == there


def _sums(values: Tensor, group: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).index_add(0, group, values)


def _most_frequent(answers: Tensor, moved: Tensor, group: Tensor, groups: int) -> Tensor:
    counts = answers.new_zeros((groups, answers.shape[1]))
    counts.index_put_((group, answers.argmax(1)), moved.to(counts), accumulate=True)
    return counts.argmax(1)
