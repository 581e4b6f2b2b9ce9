"""Training images of one class that share a pattern which other classes have not: what a poisoned set looks like.

A backdoor is taught by one trigger on several examples of one label (Gu et al. 2017, arXiv 1708.06733), with wrong labels or
right ones (Turner et al. 2019, arXiv 1912.02771). Labels that contradict the rest (:mod:`reprogram.labels.suspects`) do not
show it, because such examples agree with each other. Their pixels show it: in some window, what is left of them without its
local mean is the same. Likeness of two examples in a window, of 3 x 3 pixels p and q without their local mean, is
p·q / (max(|p|², |q|²) + FLOOR · mean), 1 for the same pattern, whatever lies beneath an added one. The gap of an example in a
window is its likeness to the MATES-th most alike example of its class, minus the same for the other classes. A patch shows
in the largest gap (``score``), a faint pattern over the whole image in the share of windows with some gap (``breadth``).
Constants were chosen on seeds 0 to 5 of digits, MNIST and CIFAR-10, 16 labels a class (docs/results/poisoned_labels.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE, MATES, FLOOR = 3, 4, 0.25
WIDEST = 48  # pixels; larger images are averaged down to it
MARGIN = 0.15  # by which MATES scores of a class must pass the largest of all other classes
SOME, TIMES, LEAST = 0.2, 2.5, 0.008  # a gap that counts for the breadth; MATES breadths must pass the others' so often
AT_ONCE = 4_000_000  # likenesses held in memory
MOST = 3000  # examples that are compared with each other


@dataclass(frozen=True)
class SharedPatterns:
    """score, breadth [n]: of each example. suspected: rows of the examples that share a pattern, the most alike first.
    windows [n]: place (top, left) of the window with that score, on images of ``shape``."""

    score: np.ndarray
    breadth: np.ndarray
    suspected: np.ndarray
    windows: np.ndarray
    shape: tuple[int, int]


def find_shared_patterns(images: Tensor, labels: np.ndarray) -> SharedPatterns:
    """images [n, C, H, W] in [0, 1], labels [n]; at least two classes. Raises ValueError for other shapes."""
    labels = np.asarray(labels, int)
    if images.ndim != 4 or len(images) != len(labels) or len(np.unique(labels)) < 2:
        raise ValueError(f"{tuple(images.shape)} images for {labels.shape} labels; [n, C, H, W] and [n] of two classes")
    small = _shrunk(images.float())
    shape = (int(small.shape[2]), int(small.shape[3]))
    score, place, breadth = _scores(_windows(small), torch.from_numpy(labels))
    suspected = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own, rest = labels == label, labels != label
        most, widest = score[rest].max(), max(TIMES * breadth[rest].max(), LEAST)
        for passes, member in ((score > most + MARGIN, score > most), (breadth > widest, breadth > widest / 2)):
            if (own & passes).sum() >= min(MATES, own.sum()) > 1:
                suspected |= own & member
    rows = np.flatnonzero(suspected)
    ranked = rows[np.argsort(-score[rows], kind="stable")]
    return SharedPatterns(score, breadth, ranked, np.stack(divmod(place, shape[1] - SIDE + 1), 1), shape)


def _shrunk(images: Tensor) -> Tensor:
    """At most WIDEST pixels a side, and never smaller than a window."""
    sides = [max(SIDE, min(side, WIDEST)) for side in images.shape[2:]]
    return F.adaptive_avg_pool2d(images, (sides[0], sides[1]))


def _windows(images: Tensor) -> Tensor:
    """[L, n, C · SIDE²]: every window of the images without their local mean."""
    local = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return F.unfold(images - local, SIDE).permute(2, 0, 1).contiguous()


def _scores(windows: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(score [n], window of it [n], breadth [n]), class by class and a part of the windows at a time."""
    energy = windows.square().sum(2)
    floor = FLOOR * float(energy.mean()) + 1e-12
    score = torch.full((windows.shape[1],), -1.0)
    place = torch.zeros(windows.shape[1], dtype=torch.long)
    some = torch.zeros(windows.shape[1])
    for label in labels.unique():
        own, rest = (torch.nonzero(labels == label).squeeze(1), torch.nonzero(labels != label).squeeze(1))
        mates = min(MATES, len(own) - 1, len(rest))
        if mates < 1:
            continue
        step = max(1, AT_ONCE // (len(own) * len(labels)))
        for start in range(0, len(windows), step):
            part, size = windows[start : start + step], energy[start : start + step]
            like = part[:, own] @ part.transpose(1, 2) / (torch.maximum(size[:, own, None], size[:, None]) + floor)
            inside = like[:, :, own]
            inside.diagonal(dim1=1, dim2=2).fill_(-2.0)
            gap = inside.topk(mates, 2).values[..., -1] - like[:, :, rest].topk(mates, 2).values[..., -1]
            best, where = gap.max(0)
            some[own] += (gap > SOME).sum(0)
            better = best > score[own]
            score[own[better]], place[own[better]] = best[better], where[better] + start
    return score.numpy(), place.numpy(), (some / len(windows)).numpy()
