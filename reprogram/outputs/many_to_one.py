"""Each target label gets several source labels; their probabilities are averaged (BAR)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs._counts import CountedMapping, check_enough, checked, match_greedily, one_hot_weights
from reprogram.outputs.base import mean_logits
from reprogram.ranges import Count, Seed


@dataclass(eq=False)
class ManyToOne(CountedMapping):
    """log of the mean *probability* of the ``each`` source labels of a target label (Tsai et al. 2020, BAR, eq. 2).

    Target labels take turns at their most frequent source labels under the untrained prompt, no label twice; the mapping
    is then kept, as in the paper. A softmax over these logits is each label's share of the mapped probability.

    each: source labels per target label. assignment: ``frequency`` or ``random``. seed: of random choices.
    """

    each: Count = 6
    assignment: str = "frequency"
    seed: Seed = 0

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if self.each < 1:
            raise ConfigError(f"output.each is {self.each}; allowed: 1 or more source labels")
        if self.assignment not in ("frequency", "random"):
            raise ConfigError(f"output.assignment is '{self.assignment}'; allowed: frequency, random")
        check_enough(self, self.each)
        order = torch.randperm(self.source_labels, generator=torch.Generator().manual_seed(self.seed))
        used = order[: self.target_labels * self.each]
        self.index: Tensor
        self.settled: Tensor
        self.register_buffer("index", used.reshape(self.target_labels, self.each).clone())
        self.register_buffer("settled", torch.tensor(int(self.assignment == "random"), dtype=torch.uint8))

    def remap(self, sums: Tensor) -> None:
        if not self.settled:
            self.index = match_greedily(sums, self.each, self.seed).to(self.index.device)
            self.settled.fill_(1)

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        log_probabilities = mean_logits(outputs).log_softmax(1)
        own = log_probabilities[:, checked(self.index, self.source_labels)]  # [B, T, each]: a row a target label
        return own.logsumexp(2) - math.log(self.each)

    def weights(self) -> Tensor:
        return one_hot_weights(self.index, self.source_labels)
