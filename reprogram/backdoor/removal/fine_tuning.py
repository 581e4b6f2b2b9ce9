"""Plain fine-tuning on the clean set: the first thing that anybody would try."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from reprogram.backdoor.removal.base import CleanSet, Wash, Washed
from reprogram.ranges import Amount, NotNegative, Positive
from reprogram.robustness.unfrozen import learn


@dataclass
class FineTuning(Wash):
    """epochs, rate: of Adam on all weights. decay: weight decay."""

    epochs: Amount = 20
    rate: Positive = 1e-3
    decay: NotNegative = 5e-4

    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        tuned = copy.deepcopy(model)
        return Washed(learn(tuned, clean.images, clean.labels, self.epochs, self.rate, seed, decay=self.decay))
