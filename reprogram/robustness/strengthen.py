"""Strengthen a copy of a small source by adversarial fine-tuning, and measure what was gained.

The losses are those that strengthen a program (:mod:`reprogram.training.adversarial`): PGD-AT, TRADES, Gaussian noise
for smoothing, and fast training with one random-start step (Wong, Rice & Kolter 2020, arXiv 2001.03994).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.frozen import still
from reprogram.interfaces import SourceModel
from reprogram.progress import progress
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.ensemble import AttackEnsemble
from reprogram.robustness.augment import shifted
from reprogram.robustness.findings import Row, share_row
from reprogram.robustness.unfrozen import Unfrozen, answers, learn
from reprogram.threat import Threat
from reprogram.training.adversarial import AdversarialLoss


@dataclass
class Strengthening:
    """epochs: passes over the examples. rate: largest rate of Adam, one cycle. decay: weight decay.

    shift: pixels by which training images are moved at random, an augmentation for small training sets.
    """

    epochs: int = 30
    rate: float = 5e-3
    decay: float = 1e-4
    batch_size: int = 64
    shift: int = 2

    def fit(
        self, source: SourceModel, loss: AdversarialLoss, images: Tensor, labels: Tensor, seed: int = 0
    ) -> Unfrozen:
        """A strengthened copy; the source does not change."""
        model = Unfrozen(source)
        generator = torch.Generator().manual_seed(seed)

        def moved(model: nn.Module, batch: Tensor, wanted: Tensor) -> Tensor:
            return loss(model, shifted(batch, self.shift, generator), wanted)

        with progress("strengthening", self.epochs) as bar:
            learn(
                model, images, labels, self.epochs, self.rate, seed, moved, self.batch_size, self.decay, bar.advance
            )  # fmt: skip
        return model


@dataclass
class Measured:
    """clean, robust: accuracies of one model; rows: for the report."""

    clean: float
    robust: float
    rows: list[Row] = field(default_factory=list)


def measure(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, when: str, steps: int = 50, seed: int = 0
) -> Measured:
    """Clean accuracy on all images, and what APGD-CE and APGD-DLR together leave; ``when`` stands in the rows' names."""
    shared: dict[str, Any] = {"threat": threat, "seed": seed, "batch_size": 256, "steps": steps}
    with still(model), progress(f"APGD {when}", 2 * len(images)) as bar:
        right = answers(model, images) == labels
        found = AttackEnsemble([APGD(**shared), APGD(**shared, loss="dlr")])(model, images, labels, bar.advance)
    rows = [
        share_row(f"clean, {when}", "estimate", "none", right),
        share_row(f"apgd, {when}", "attack", str(threat), ~found.broken, steps=steps),
    ]
    return Measured(float(right.float().mean()), float((~found.broken).float().mean()), rows)
