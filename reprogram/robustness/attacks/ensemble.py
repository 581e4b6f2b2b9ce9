"""Several attacks one after the other, each on what the ones before left: the worst case of each example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.base import Attack, Attacked, Model
from reprogram.robustness.attacks.square import Square
from reprogram.threat import Threat


@dataclass(eq=False)
class AttackEnsemble:
    """``breakers`` says for each example which attack broke it (-1: none)."""

    attacks: Sequence[Attack]
    breakers: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def __call__(
        self,
        model: Model,
        images: Tensor,
        labels: Tensor,
        advance: Callable[[int], Any] | None = None,
        right: Tensor | None = None,
    ) -> Attacked:
        total = Attacked(images.clone(), torch.ones(len(images)), torch.zeros(len(images)))
        self.breakers = torch.full((len(images),), -1)
        for number, attack in enumerate(self.attacks):
            rows = torch.nonzero(~total.broken).squeeze(1)
            if not len(rows):
                break
            if number:  # what the first attack left is right as it is
                right = torch.ones(len(images), dtype=torch.bool)
            one = attack(model, images[rows], labels[rows], advance, None if right is None else right[rows])
            total.queries[rows] += one.queries
            hit = rows[one.broken]
            total.survival[rows] = torch.minimum(total.survival[rows], one.survival)
            total.examples[hit] = one.examples[one.broken]
            self.breakers[hit] = number
        return total


def standard(threat: Threat, seed: int = 0, batch_size: int = 64, steps: int = 100, queries: int = 5000) -> AttackEnsemble:
    """APGD-CE, targeted APGD-DLR and Square (AutoAttack, Croce & Hein 2020, without FAB)."""
    shared: dict[str, Any] = {"threat": threat, "seed": seed, "batch_size": batch_size}
    return AttackEnsemble(
        [APGD(**shared, steps=steps), APGD(**shared, steps=steps, loss="targeted"), Square(**shared, steps=queries)]
    )
