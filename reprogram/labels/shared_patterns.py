"""Training images of one class that share a pattern which other classes have not: what a poisoned set looks like.

A backdoor is taught by one trigger on several examples of one label (Gu et al. 2017, arXiv 1708.06733), with wrong labels or
right ones (Turner et al. 2019, arXiv 1912.02771). Labels that contradict the rest (:mod:`reprogram.labels.suspects`) do not
show it, because such examples agree with each other. Their pixels show it: in some window, what is left of them without its
local mean is the same. Likeness of two examples in a window, of 3 x 3 pixels p and q without their local mean, is
p·q / (max(|p|², |q|²) + FLOOR · mean), 1 for the same pattern, whatever lies beneath an added one. The score of an example
is the largest over all windows of its likeness to the MATES-th most alike example of its class, minus the same for the
other classes.
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
AT_ONCE = 4_000_000  # likenesses held in memory
MOST = 3000  # examples that are compared with each other


@dataclass(frozen=True)
class SharedPatterns:
    """score [n]: of each example. suspected: rows of the examples that share a pattern, the most alike first. windows [n]:
    place (top, left) of the window with that score, on images of ``shape``."""

    score: np.ndarray
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
    score, place = _scores(_windows(small), torch.from_numpy(labels))
    found = []
    for label in np.unique(labels):
        own, most = np.flatnonzero(labels == label), score[labels != label].max()
        if (score[own] > most + MARGIN).sum() >= min(MATES, len(own)) > 1:
            found.append(own[score[own] > most])
    rows = np.concatenate([*found, np.zeros(0, int)]).astype(int)
    across = shape[1] - SIDE + 1
    return SharedPatterns(score, rows[np.argsort(-score[rows], kind="stable")], np.stack(divmod(place, across), 1), shape)


def _shrunk(images: Tensor) -> Tensor:
    """At most WIDEST pixels a side, and never smaller than a window."""
    sides = [max(SIDE, min(side, WIDEST)) for side in images.shape[2:]]
    return F.adaptive_avg_pool2d(images, (sides[0], sides[1]))


def _windows(images: Tensor) -> Tensor:
    """[L, n, C · SIDE²]: every window of the images without their local mean."""
    local = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return F.unfold(images - local, SIDE).permute(2, 0, 1).contiguous()


def _scores(windows: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(score [n], window of it [n]), class by class and a part of the windows at a time."""
    energy = windows.square().sum(2)
    floor = FLOOR * float(energy.mean()) + 1e-12
    score = torch.full((windows.shape[1],), -1.0)
    place = torch.zeros(windows.shape[1], dtype=torch.long)
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
            better = best > score[own]
            score[own[better]], place[own[better]] = best[better], where[better] + start
    return score.numpy(), place.numpy()
