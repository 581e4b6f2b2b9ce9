"""A linear layer learned by gradient on standardised values."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from reprogram.interfaces import OutputMapping, SourceOutput, TargetInfo


@dataclass(eq=False)
class ProbeHead(OutputMapping):
    """logits_T = standardise(values)·W + b; W = 0 and b = 0 at the start.

    Mean and deviation of each value come from the first pass over the training examples and then stay: a layer on raw
    values would need another learning rate for every source.
    """

    statistics: ClassVar[bool] = True

    def _build(self, width: int, target: TargetInfo) -> None:
        self.weight = nn.Parameter(torch.zeros(width, len(target.classes)))
        self.bias = nn.Parameter(torch.zeros(len(target.classes)))
        self.centre: Tensor
        self.spread: Tensor
        self.settled: Tensor
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("settled", torch.zeros((), dtype=torch.uint8))
        self._seen: list[Tensor] = []

    @abstractmethod
    def values(self, outputs: list[SourceOutput]) -> Tensor:
        """What the layer reads, [B, width]."""

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return (self.values(outputs).float() - self.centre) / self.spread @ self.weight + self.bias

    @torch.no_grad()
    def observe(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        if not self.settled:
            self._seen.append(self.values(outputs).float())

    @torch.no_grad()
    def refresh(self) -> None:
        if not self._seen:
            return
        values = torch.cat(self._seen)
        self.centre, spread = values.mean(0), values.std(0, correction=0)
        self.spread = spread.clamp_min(float(1e-2 * spread.mean()) + 1e-6)  # a value that hardly moves must not explode
        self.settled.fill_(1)
        self._seen = []
