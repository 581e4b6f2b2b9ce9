"""Three published repairs as ways of washing, to measure beside: FT-SAM, I-BAU and NAD.

FT-SAM (Zhu et al. 2023, arXiv 2304.11823): fine-tuning towards flat minima; each step takes the gradient at the weights moved
by ``size`` along |w|^2 g / || |w| g ||. I-BAU (Zeng et al. 2022, arXiv 2110.03735): unlearn the universal perturbation
that fools the model most; the outer step follows the implicit hypergradient by a few terms of its fixed-point series. NAD
(Li et al. 2021, arXiv 2101.05930): a fine-tuned copy teaches the model where to look; attention is the mean of the squared
channels of a layer, scaled to length 1.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.backdoor.removal.base import TOLERANCE, CleanSet, Wash, Washed
from reprogram.ranges import Amount, Count, NotNegative, Positive, Share
from reprogram.robustness.unfrozen import learn


@dataclass
class SharpnessAware(Wash):
    """epochs, rate, momentum, decay: of SGD with a cosine rate. size: of the move (rho of the paper, adaptive)."""

    epochs: Amount = 60
    rate: Positive = 0.05
    momentum: NotNegative = 0.9
    decay: NotNegative = 5e-4
    size: Positive = 2.0
    batch_size: Count = 64

    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        tuned, generator = copy.deepcopy(model).train(), torch.Generator().manual_seed(seed)
        weights = [p for p in tuned.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(weights, self.rate, self.momentum, weight_decay=self.decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, self.epochs))
        for _ in range(self.epochs):
            for rows in torch.randperm(len(clean.images), generator=generator).split(self.batch_size):
                images, labels = clean.images[rows], clean.labels[rows]
                gradients = torch.autograd.grad(F.cross_entropy(tuned(images), labels), weights)
                moves = self.moves(weights, gradients)
                _add(weights, moves, 1.0)
                optimiser.zero_grad()
                F.cross_entropy(tuned(images), labels).backward()
                _add(weights, moves, -1.0)
                optimiser.step()
            schedule.step()
        return Washed(tuned.eval())

    def moves(self, weights: list[nn.Parameter], gradients: tuple[Tensor, ...]) -> list[Tensor]:
        """Where each tensor goes before the gradient is taken."""
        scaled = [w.detach().abs() * g for w, g in zip(weights, gradients, strict=True)]
        length = torch.stack([s.norm() for s in scaled]).norm().clamp(min=1e-12)
        return [self.size * w.detach().abs() * s / length for w, s in zip(weights, scaled, strict=True)]


@torch.no_grad()
def _add(weights: list[nn.Parameter], moves: list[Tensor], sign: float) -> None:
    for weight, move in zip(weights, moves, strict=True):
        weight.add_(move, alpha=sign)


@dataclass
class Unlearning(Wash):
    """rounds: of finding one perturbation (``ascent`` steps of Adam at ``ascent_rate``) and unlearning it over one pass
    of the examples (Adam at ``rate``).

    size: l2 length of the perturbation in units of the square root of the number of pixel values. terms: of the
    fixed-point series with ``step``; 0 takes the perturbation as given. clean: weight of the unperturbed examples.
    tolerance: held-out clean accuracy that may be lost; the last round within it is kept.
    """

    rounds: Count = 10
    rate: Positive = 1e-3
    size: Positive = 0.18
    ascent: Count = 20
    ascent_rate: Positive = 0.05
    terms: Amount = 5
    step: Positive = 0.1
    clean: NotNegative = 1.0
    tolerance: Share = TOLERANCE
    batch_size: Count = 64

    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        found, generator = copy.deepcopy(model).eval(), torch.Generator().manual_seed(seed)
        weights = [p for p in found.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(weights, self.rate)
        start, curve, kept = clean.held_accuracy(model), [], (0, copy.deepcopy(found))
        floor = start - max(self.tolerance, 1 / len(clean.held_labels)) - 1e-9
        for i in range(1, self.rounds + 1):
            delta = self.worst(found, clean.images, clean.labels, generator)
            for rows in torch.randperm(len(clean.images), generator=generator).split(self.batch_size):
                gradients = self.hypergradient(found, weights, delta, clean.images[rows], clean.labels[rows])
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.grad = gradient
                optimiser.step()
            held = clean.held_accuracy(found)
            curve.append({"at": i, "held": held})
            if held >= floor:
                kept = (i, copy.deepcopy(found))
        return Washed(kept[1], float(kept[0]), curve)

    def worst(self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The perturbation [1, C, H, W] that raises the loss of all images most."""
        most = self.size * images[0].numel() ** 0.5
        delta = (0.01 * torch.randn(images[:1].shape, generator=generator)).to(images).requires_grad_(True)
        optimiser = torch.optim.Adam([delta], self.ascent_rate)
        for _ in range(self.ascent):
            optimiser.zero_grad()
            (gradient,) = torch.autograd.grad(-_loss(model, images, labels, delta), [delta])
            delta.grad = gradient
            optimiser.step()
            with torch.no_grad():
                delta.mul_(min(1.0, most / float(delta.norm().clamp(min=1e-12))))
        return delta.detach()

    def hypergradient(
        self, model: nn.Module, weights: list[nn.Parameter], delta: Tensor, images: Tensor, labels: Tensor
    ) -> list[Tensor]:
        """Gradient of the outer loss by the weights, with the change of the best perturbation in it."""
        delta = delta.clone().requires_grad_(True)
        outer = _loss(model, images, labels, delta)
        if self.clean:
            outer = outer + self.clean * F.cross_entropy(model(images), labels)
        *direct, aim = torch.autograd.grad(outer, [*weights, delta])
        if not self.terms:
            return list(direct)
        (ascent,) = torch.autograd.grad(_loss(model, images, labels, delta), [delta], create_graph=True)
        moved = delta + self.step * ascent  # the map whose fixed point the best perturbation is
        vector = aim
        for _ in range(self.terms - 1):
            (vector,) = torch.autograd.grad(moved, [delta], vector, retain_graph=True)
            vector = vector + aim
        by_delta = torch.autograd.grad(moved, weights, vector, allow_unused=True)
        return [g if h is None else g + h for g, h in zip(direct, by_delta, strict=True)]


def _loss(model: nn.Module, images: Tensor, labels: Tensor, delta: Tensor) -> Tensor:
    return F.cross_entropy(model((images + delta).clamp(0, 1)), labels)


@dataclass
class AttentionDistillation(Wash):
    """teacher_epochs, teacher_rate: of the fine-tuned copy. epochs, rate, decay: of the student, which starts from the model.

    weight: of the attention of each of the last ``layers`` convolutions beside the cross-entropy.
    """

    teacher_epochs: Amount = 20
    teacher_rate: Positive = 2e-2
    epochs: Amount = 20
    rate: Positive = 2e-2
    decay: NotNegative = 5e-4
    weight: NotNegative = 100.0
    layers: Count = 3

    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        teacher, student = copy.deepcopy(model), copy.deepcopy(model)
        learn(teacher, clean.images, clean.labels, self.teacher_epochs, self.teacher_rate, seed, decay=self.decay)

        def loss(one: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad(), attended(teacher, self.layers) as wanted:
                teacher(images)
            with attended(one, self.layers) as seen:
                value = F.cross_entropy(one(images), labels)
            return value + self.weight * sum(
                ((a - b).square().sum(1).mean() for a, b in zip(seen, wanted, strict=True)), torch.zeros(())
            )

        return Washed(learn(student, clean.images, clean.labels, self.epochs, self.rate, seed + 1, loss, decay=self.decay))


@contextmanager
def attended(model: nn.Module, layers: int) -> Iterator[list[Tensor]]:
    """Attention maps [B, h w] of the last convolutions, filled in by the passes inside the block."""
    found = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)][-layers:]
    maps: list[Tensor] = []
    handles = [
        m.register_forward_hook(lambda _m, _i, out: maps.append(F.normalize(out.square().mean(1).flatten(1), dim=1)))
        for m in found
    ]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()
