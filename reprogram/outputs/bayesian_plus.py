"""Each source label votes for target labels by the probability it gave them (BLM+)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.outputs.bayesian import BayesianMapping
from reprogram.ranges import Range


@dataclass(eq=False)
class BayesianPlusMapping(BayesianMapping):
    """BLM with probabilities of the k likeliest source labels in place of counts (Cai et al. 2024, BLM+, eq. 7).

    share: k as a share of the number of target labels, at least 1: with fewer than seven target labels the published
    k = int(0.15·T) is 0, and its matrix NaN.
    """

    share: Annotated[float, Range(0, 1000, open=True)] = 0.15

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if not self.share > 0:
            raise ConfigError(f"output.share is {self.share}; it must be above 0")
        self.top = min(max(1, int(self.share * self.target_labels)), self.source_labels)

    def evidence(self, logits: Tensor, one_hot: Tensor) -> Tensor:
        values, index = logits.softmax(1).topk(self.top, dim=1)
        kept = torch.zeros_like(logits).scatter_(1, index, values)
        return (kept.T @ one_hot).double()[None]
