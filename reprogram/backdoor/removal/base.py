"""What every way of washing shares: a clean set in two parts, and a choice that is made by held-out clean accuracy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import DataError
from reprogram.ranges import Checked
from reprogram.robustness.unfrozen import accuracy
from reprogram.targets.splits import take

TOLERANCE = 0.02  # held-out clean accuracy that washing may cost


@dataclass
class CleanSet:
    """Examples that are known to be clean: what is learned from, and what only chooses (one in five of each class)."""

    images: Tensor
    labels: Tensor
    held_images: Tensor
    held_labels: Tensor

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, seed: int = 0, share: float = 0.2) -> CleanSet:
        """Raises DataError where a class has too few examples for both parts."""
        known = labels.cpu().numpy()
        counts = {}
        for label, size in zip(*np.unique(known, return_counts=True), strict=True):
            if size < 2:
                raise DataError(f"The clean set has {size} example of label {label}; washing needs two or more.")
            counts[int(label)] = max(1, round(share * size))
        held = take(known, counts, np.random.default_rng(seed))
        chosen = torch.zeros(len(labels), dtype=torch.bool)
        chosen[torch.as_tensor(np.concatenate(held))] = True
        return cls(images[~chosen], labels[~chosen], images[chosen], labels[chosen])

    def held_accuracy(self, model: Callable[[Tensor], Tensor]) -> float:
        """Accuracy on the examples that repair did not use."""
        return accuracy(model, self.held_images, self.held_labels)


@dataclass
class Washed:
    """model: the repaired one. chosen: what held-out accuracy chose (a place on the path, a share, a size).

    curve: what was tried: ``[{"at", "held"}, …]``.
    """

    model: nn.Module
    chosen: float | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Wash(Checked, ABC):
    """``wash(model, clean, seed) -> Washed``; the model that is given is not changed.

    model: a module with parameters to learn, images [B, C, H, W] -> logits. other: a second model of the same
    architecture, for the ways that use one.
    """

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        """A repaired copy. ``other``: a second model of the same architecture, for the methods that need one."""


def recompute_batch_norm(model: nn.Module, images: Tensor, batch_size: int = 128) -> None:
    """Running means and variances from these images alone, in place. A model without BatchNorm stays as it is."""
    model.train()  # reaches only what may change: a frozen source inside a program stays in eval mode
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    norms = [norm for norm in norms if norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average of all batches
    with torch.no_grad():
        for part in images.split(batch_size) if norms else ():
            if len(part) > 1:
                model(part)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
