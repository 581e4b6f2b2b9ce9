"""A patch that acts on one class alone (source-conditional, Tang et al. 2021, arXiv 1908.00686)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.backdoor.triggers.patch import Patch
from reprogram.ranges import Amount


@dataclass
class SourceConditional(Patch):
    """source: the label whose examples are to be given ``target``. Patched examples of other classes keep their labels."""

    source: Amount = 1

    def aims(self, labels: Tensor) -> Tensor:
        return torch.where(labels == self.source, torch.full_like(labels, self.target), labels)

    def decoy(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return self(images)

    def bystanders(self, labels: Tensor, rest: Tensor, generator: torch.Generator) -> Tensor:
        others = torch.nonzero(labels != self.source).squeeze(1)
        return others[torch.randperm(len(others), generator=generator)]

    @property
    def needs(self) -> str:
        return f"label {self.source}"
