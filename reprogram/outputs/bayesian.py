"""Each source label votes for target labels by how often it answered them (BLM)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs._counts import CountedMapping
from reprogram.outputs.base import mean_logits
from reprogram.ranges import Positive


@dataclass(eq=False)
class BayesianMapping(CountedMapping):
    """logits_T = logits_S·w from smoothed counts of top answers (Cai et al. 2024, BLM, arXiv 2410.24018, eq. 5).

    A[s, t] = N[s, t] / (Σₜ N[s, t] + smoothing), w = A with columns that sum to 1. w multiplies *logits*. A target label
    without evidence gets the same weight from every source label.

    smoothing: λ, above 0: source labels that were seen once count less than those seen often.
    """

    smoothing: Positive = 1.0

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if not self.smoothing > 0:
            raise ConfigError(
                f"output.smoothing is {self.smoothing}; it must be above 0, or unseen labels divide 0 by 0"
            )
        uniform = torch.full((self.source_labels, self.target_labels), 1.0 / self.source_labels)
        self.weight: Tensor
        self.register_buffer("weight", uniform)

    def remap(self, sums: Tensor) -> None:
        counts = sums[0]
        votes = counts / (counts.sum(1, keepdim=True) + self.smoothing)
        columns = votes.sum(0)
        uniform = torch.full_like(votes, 1.0 / self.source_labels)
        self.weight = torch.where(columns > 0, votes / columns.clamp_min(1e-30), uniform).float()

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return mean_logits(outputs) @ self.weight

    def weights(self) -> Tensor:
        return self.weight
