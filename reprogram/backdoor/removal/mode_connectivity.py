"""Mode connectivity as a wash (Zhao et al. 2020, arXiv 2005.00060; curves after Garipov et al. 2018, arXiv 1802.10026).

Two models of one architecture are the ends of a curve in weight space. Only its bend is trained, on clean examples;
triggers of the ends fade towards the middle, while clean accuracy stays.

    bezier:     w(t) = (1 - t)^2 w1 + 2 t (1 - t) b + t^2 w2
    polychain:  straight from w1 to b and from b to w2
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from reprogram.backdoor.removal.base import TOLERANCE, CleanSet, Wash, Washed, recompute_batch_norm
from reprogram.errors import ConfigError, SourceError
from reprogram.progress import progress
from reprogram.ranges import Amount, Count, NotNegative, Positive, Range, Share
from reprogram.robustness.augment import mixed, shifted
from reprogram.robustness.unfrozen import learn

Weights = dict[str, Tensor]


class Curve(ABC):
    """Weights between two ends, by name; ``t`` runs from 0 to 1."""

    def __init__(self, first: Weights, last: Weights) -> None:
        self.first, self.last = first, last
        self.bend = {name: ((w + last[name]) / 2).clone().requires_grad_(True) for name, w in first.items()}

    def at(self, t: float) -> Weights:
        return {name: self.weight(name, t) for name in self.first}

    @abstractmethod
    def weight(self, name: str, t: float) -> Tensor:
        """Parameter ``name`` of the model at ``t`` in [0, 1] of the curve."""


class BezierCurve(Curve):
    """A quadratic Bézier curve between both ends with one trained control point."""

    def weight(self, name: str, t: float) -> Tensor:
        return (1 - t) ** 2 * self.first[name] + 2 * t * (1 - t) * self.bend[name] + t**2 * self.last[name]


class Polychain(Curve):
    """Two straight lines between both ends that meet in one trained point."""

    def weight(self, name: str, t: float) -> Tensor:
        if t <= 0.5:
            return (1 - 2 * t) * self.first[name] + 2 * t * self.bend[name]
        return (2 - 2 * t) * self.bend[name] + (2 * t - 1) * self.last[name]


CURVES: dict[str, type[Curve]] = {"bezier": BezierCurve, "polychain": Polychain}


def learned(model: nn.Module) -> Weights:
    """Copies of the parameters that learn, by name."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def check_same(first: nn.Module, other: nn.Module) -> None:
    """SourceError names the first tensor that differs in name or shape."""
    a, b = ({n: tuple(p.shape) for n, p in m.named_parameters()} for m in (first, other))
    for name in (*a, *b):
        if a.get(name) != b.get(name):
            shapes = [s.get(name, "absent") for s in (a, b)]
            raise SourceError(
                f"The two models are of different architectures: '{name}' is {shapes[0]} in the first and {shapes[1]} "
                "in the other; a path needs two models of one architecture."
            )


def placed(model: nn.Module, weights: Weights, images: Tensor) -> nn.Module:
    """A copy of the model with these weights, BatchNorm recomputed on the images: statistics differ at every point."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])
    recompute_batch_norm(found, images)
    return found


@dataclass
class ModeConnectivity(Wash):
    """curve: ``bezier`` or ``polychain``. epochs: of training the bend, ``rate`` of Adam, one random t a batch.

    decay: weight decay on the interpolated weights. teach: weight of what both ends agree on for shifted and mixed clean
    images (by up to ``shift`` pixels), beside the labels: it makes few examples go further, and shows no trigger.

    points: of the path that are looked at. tolerance: held-out clean accuracy that may be lost against the best point
    (two examples at least); among the points within it, the one nearest to the middle is chosen, because the ends carry
    their triggers. tuning: epochs, and ``tuning_rate`` of the fine-tuned copy that is the second end where there is only
    one model.
    """

    curve: str = "bezier"
    epochs: Amount = 100
    rate: Positive = 1e-2
    decay: NotNegative = 1e-4
    teach: NotNegative = 4.0
    shift: Annotated[int, Range(0, 4096)] = 1
    points: Annotated[int, Range(3, 10_000)] = 21
    tolerance: Share = TOLERANCE
    batch_size: Count = 64
    tuning: Amount = 20
    tuning_rate: Positive = 1e-2

    def __post_init__(self) -> None:
        if self.curve not in CURVES:
            raise ConfigError(f"curve={self.curve} is unknown; allowed: {', '.join(CURVES)}")
        if self.points < 3:
            raise ConfigError(f"points={self.points} must be at least 3: both ends and the middle.")

    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        if other is None:
            other = learn(
                copy.deepcopy(model), clean.images, clean.labels, self.tuning, self.tuning_rate, seed, decay=self.decay
            )
        check_same(model, other)
        curve = self.train(model, other, clean, seed)
        path = []
        for i in range(self.points):
            t = i / (self.points - 1)
            point = placed(model, curve.at(t), clean.images)
            path.append((t, point, clean.held_accuracy(point)))
        best = max(held for _, _, held in path)
        loss = max(self.tolerance, 2 / len(clean.held_labels))  # two examples are within the noise of few
        good = [entry for entry in path if entry[2] >= best - loss - 1e-9]
        t, point, _ = min(good, key=lambda entry: (abs(entry[0] - 0.5), -entry[2]))
        return Washed(point, t, [{"at": at, "held": held, "model": one} for at, one, held in path])

    def train(self, model: nn.Module, other: nn.Module, clean: CleanSet, seed: int = 0) -> Curve:
        """The curve between both models with its bend trained on the clean images."""
        curve = CURVES[self.curve](learned(model), learned(other))
        runner = copy.deepcopy(model).train()
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(list(curve.bend.values()), self.rate)
        batches = -(-len(clean.images) // self.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _flat_then_down(self.epochs * batches))
        with progress("training the path", self.epochs) as bar:
            for _ in range(self.epochs):
                for rows in torch.randperm(len(clean.images), generator=generator).split(self.batch_size):
                    t = float(torch.rand(1, generator=generator))
                    weights = curve.at(t)
                    loss = self.loss(runner, weights, clean.images[rows], clean.labels[rows])
                    if self.teach:
                        seen = mixed(shifted(clean.images[rows], self.shift, generator), generator)
                        loss = loss + self.teach * _disagreement(runner, weights, seen, (model, other))
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    schedule.step()
                bar.advance()
        return curve

    def loss(self, runner: nn.Module, weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
        value = F.cross_entropy(functional_call(runner, weights, (images,)), labels)
        return value + self.decay / 2 * sum((w.square().sum() for w in weights.values()), torch.zeros(()))


def _disagreement(runner: nn.Module, weights: Weights, images: Tensor, ends: tuple[nn.Module, nn.Module]) -> Tensor:
    """Divergence of the point's answers from the mean of those of both ends, which are in eval mode."""
    with torch.no_grad():
        wanted = sum((end(images).softmax(1) / 2 for end in ends), torch.zeros(()))
    return F.kl_div(functional_call(runner, weights, (images,)).log_softmax(1), wanted, reduction="batchmean")


def _flat_then_down(steps: int):  # type: ignore[no-untyped-def]
    """Rate factor: 1 for the first half, linear to 1% at 90%, 1% from there on."""

    def factor(step: int) -> float:
        share = step / max(1, steps)
        return 1.0 if share < 0.5 else max(0.01, 1.0 - 0.99 * (share - 0.5) / 0.4)

    return factor
