"""Each target label gets its most frequent source label, chosen once before training (FLM)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reprogram.interfaces import SourceSpec, TargetInfo
from reprogram.outputs._counts import OneToOne


@dataclass(eq=False)
class FrequencyMapping(OneToOne):
    """Greedy one-to-one assignment from counts of top answers under the untrained prompt (Tsai et al. 2020).

    seed: target labels without an example get unused source labels by lot.
    """

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        self.settled: Tensor
        self.register_buffer("settled", torch.zeros((), dtype=torch.uint8))

    def remap(self, sums: Tensor) -> None:
        if not self.settled:
            super().remap(sums)
            self.settled.fill_(1)
