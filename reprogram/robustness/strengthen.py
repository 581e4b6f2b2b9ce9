"""Strengthen a copy of a small source by adversarial fine-tuning, and measure what was gained.

The losses are those that strengthen a program (:mod:`reprogram.training.adversarial`): PGD-AT, TRADES, Gaussian noise
for smoothing, fast training with one random-start step (Wong, Rice & Kolter 2020, arXiv 2001.03994), and interval bounds
for certificates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from reprogram.frozen import still
from reprogram.interfaces import SourceModel
from reprogram.progress import progress, track
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.ensemble import AttackEnsemble
from reprogram.robustness.augment import shifted
from reprogram.robustness.certification.linear_bounds.bounds import Ball
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.certification.linear_bounds.trace import record
from reprogram.robustness.checks._certified import CANNOT, not_bounded
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
        steps, done = max(1, self.epochs * -(-len(images) // self.batch_size)), count()

        def moved(model: nn.Module, batch: Tensor, wanted: Tensor) -> Tensor:
            loss.gone = next(done) / steps
            return loss(model, shifted(batch, self.shift, generator), wanted)

        with progress("strengthening", self.epochs) as bar:
            learn(
                model, images, labels, self.epochs, self.rate, seed, moved, self.batch_size, self.decay, bar.advance
            )  # fmt: skip
        return model


@dataclass
class Measured:
    """clean, robust, certified: accuracies of one model, None where nothing was certified; rows: for the report."""

    clean: float
    robust: float
    rows: list[Row] = field(default_factory=list)
    certified: float | None = None


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


def prove(measured: Measured, model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, when: str) -> Measured:
    """The same with a row of certificates on these images, where there are any."""
    if len(images):
        measured.rows.append(certificates(model, images, labels, threat, when))
        measured.certified = measured.rows[-1].value
    return measured


def certificates(model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, when: str) -> Row:
    """Share of images on which linear bounds prove that the label is the only possible answer; without a value for a model
    that has no bounds."""
    bounds, held = LinearBounds(both=False), list[bool]()
    try:
        for image, label in track(list(zip(images, labels, strict=True)), f"certifying {when}", len(images)):
            ball = Ball(image[None].double(), threat.eps, threat.norm, threat.low, threat.high)
            held.append(bounds.holds(record(model, image), ball, int(label)))
    except CANNOT as error:
        return Row(f"certified, {when}", "certificate", str(threat), None, n=0, flags=[not_bounded(error)])
    return share_row(f"certified, {when}", "certificate", str(threat), held)
