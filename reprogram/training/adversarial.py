"""Strengthening a program: losses that training calls instead of the plain one (``training.adversarial=pgd``).

Only the program learns; the source stays frozen, so what can be gained is bounded by what the program can change
(a universal prompt alone gains little: Chen et al. 2023, arXiv 2210.06284).
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.errors import ConfigError, nearest
from reprogram.frozen import without_parameter_gradients
from reprogram.modalities.batches import is_pixels
from reprogram.ranges import Checked, NotNegative, Positive, Range, Seed, Share
from reprogram.threat import Threat, ascend
from reprogram.training.intervals import Interval

PLAIN, GROWN = 0.1, 0.6  # shares of the training after which the box begins to grow, and has its size


@dataclass
class AdversarialLoss(Checked, ABC):
    """``loss(model, batch, labels) -> scalar``: batch [B, C, H, W] in [0, 1], labels [B]; gradients reach the program.

    seed: random starts and noise follow from it and the batch alone, so that a resumed run draws the same.
    gone: share of the training that is done, 0 to 1; who trains says it before each step, for losses with a schedule.
    """

    group: ClassVar[str] = "training.adversarial."

    seed: Seed = 0
    gone: float = field(default=1.0, init=False)

    def generator(self, batch: Tensor) -> torch.Generator:
        """Random numbers that follow from the seed and the batch alone."""
        content = zlib.crc32(batch.detach().cpu().contiguous().numpy().tobytes())
        return torch.Generator().manual_seed(self.seed * 1_000_003 + content)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Tensor, labels: Tensor) -> Tensor: ...

    def __call__(self, model: nn.Module, batch: Tensor, labels: Tensor) -> Tensor:
        if not is_pixels(batch):
            raise ConfigError("training.adversarial needs a target of images; strings cannot be moved by eps.")
        if labels.is_floating_point():
            raise ConfigError("training.adversarial needs a classification target.")
        return self.loss(model, batch, labels)


@dataclass
class _Perturbing(AdversarialLoss):
    """norm, eps: the threat, in pixels of the target. steps, step_size: of the inner ascent (None: 2.5 eps / steps)."""

    norm: str = "linf"
    eps: Positive = 8 / 255
    steps: Annotated[int, Range(1, 100_000)] = 10
    step_size: Positive | None = None

    def perturb(self, model: nn.Module, batch: Tensor, start: Tensor, reference: Tensor, divergence: bool) -> Tensor:
        """Examples that raise cross-entropy against labels [B], or the divergence from log-probabilities [B, T]."""

        def objective(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(x)
            wanted = reference[rows]
            if divergence:
                values = F.kl_div(logits.log_softmax(1), wanted, reduction="none", log_target=True).sum(1)
            else:
                values = F.cross_entropy(logits, wanted, reduction="none")
            return values, torch.zeros(len(x), dtype=torch.bool, device=x.device)

        step = 2.5 * self.eps / self.steps if self.step_size is None else self.step_size
        with _evaluating(model):
            return ascend(objective, batch, Threat(self.norm, self.eps), self.steps, step, start)


@dataclass
class PGDTraining(_Perturbing):
    """Cross-entropy on the worst examples that PGD finds (Madry et al. 2018, arXiv 1706.06083).

    clean: share of the loss that stays on the unchanged examples.
    """

    clean: Share = 0.0

    def loss(self, model: nn.Module, batch: Tensor, labels: Tensor) -> Tensor:
        start = Threat(self.norm, self.eps).random(batch, self.generator(batch))
        moved = self.perturb(model, batch, start, labels, divergence=False)
        value = F.cross_entropy(model(moved), labels)
        return (
            value if not self.clean else (1 - self.clean) * value + self.clean * F.cross_entropy(model(batch), labels)
        )


@dataclass
class FastTraining(PGDTraining):
    """One random-start step of 1.25 eps (Wong, Rice & Kolter 2020, arXiv 2001.03994): the price of two plain passes."""

    steps: Annotated[int, Range(1, 100_000)] = field(default=1, init=False)
    step_size: Positive | None = field(default=None, init=False)

    def perturb(self, model: nn.Module, batch: Tensor, start: Tensor, reference: Tensor, divergence: bool) -> Tensor:
        self.step_size = 1.25 * self.eps
        return super().perturb(model, batch, start, reference, divergence)


@dataclass
class TRADES(_Perturbing):
    """Clean cross-entropy plus beta times the divergence under attack (Zhang et al. 2019, arXiv 1901.08573, eq. 5)."""

    beta: NotNegative = 6.0

    def loss(self, model: nn.Module, batch: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            still = model(batch).log_softmax(1)
        nearby = (batch + 1e-3 * torch.randn(batch.shape, generator=self.generator(batch)).to(batch)).clamp(0, 1)
        moved = self.perturb(model, batch, Threat(self.norm, self.eps).project(batch, nearby), still, divergence=True)
        clean = model(batch)
        spread = F.kl_div(model(moved).log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
        return F.cross_entropy(clean, labels) + self.beta * spread


@dataclass
class GaussianTraining(AdversarialLoss):
    """Cross-entropy under Gaussian noise, for randomized smoothing (Cohen et al. 2019, arXiv 1902.02918, section 3.3).

    sigma: noise in pixels, the one that smoothing will use. draws: noisy copies of each example.
    """

    sigma: Positive = 0.25
    draws: Annotated[int, Range(1, 1000)] = 1

    def loss(self, model: nn.Module, batch: Tensor, labels: Tensor) -> Tensor:
        copies = batch.repeat(self.draws, 1, 1, 1)
        noise = torch.randn(copies.shape, generator=self.generator(batch)).to(copies)
        return F.cross_entropy(model(copies + self.sigma * noise), labels.repeat(self.draws))


@dataclass
class CertifiedTraining(AdversarialLoss):
    """Bounds the worst case of a box instead of sampling it, for certificates: interval bound propagation with a schedule
    (Gowal et al. 2018, arXiv 1810.12715; the short warm-up of Shi et al. 2021, arXiv 2103.17268, without its initialisation).

    First plain training, then the box grows to its size, and the share of the plain loss falls. The finished model is checked
    by tighter bounds than it was trained with. norm, eps: the threat, in pixels of the target; linf alone, for a box is what
    intervals bound.
    beyond: how much larger the box is that is trained. clean: share of the plain loss once the box has its size.
    """

    norm: str = "linf"
    eps: Positive = 8 / 255
    beyond: Positive = 1.1
    clean: Share = 0.3

    def loss(self, model: nn.Module, batch: Tensor, labels: Tensor) -> Tensor:
        if self.norm != "linf":
            raise ConfigError("training/adversarial=certified bounds norm=linf alone; choose it, or training/adversarial=pgd.")
        logits = model(batch)
        plain = F.cross_entropy(logits, labels)
        grown = min(max((self.gone - PLAIN) / (GROWN - PLAIN), 0.0), 1.0)
        if not grown:
            return plain
        size = self.beyond * self.eps * grown
        box = Interval.between((batch - size).clamp(0, 1), (batch + size).clamp(0, 1))
        share = 1 - (1 - self.clean) * grown
        return share * plain + (1 - share) * F.cross_entropy(worst(model(box), labels), labels)


def worst(logits: Tensor, labels: Tensor) -> Tensor:
    """[B, T]: the label as low and every other class as high as the box allows. Raises ConfigError without an interval."""
    if not isinstance(logits, Interval):
        raise ConfigError("training/adversarial=certified lost its interval inside the model; it leaves PyTorch somewhere.")
    label = F.one_hot(labels, logits.shape[1]).bool()
    return torch.where(label, logits.low, logits.high)


NAMED: dict[str, type[AdversarialLoss]] = {
    "pgd": PGDTraining,
    "trades": TRADES,
    "gaussian": GaussianTraining,
    "fast": FastTraining,
    "certified": CertifiedTraining,
}


def named(name: str) -> AdversarialLoss | None:
    """``pgd``, ``trades``, ``gaussian``, ``fast`` and ``certified`` with their defaults; ``none`` is None."""
    if name == "none":
        return None
    if name not in NAMED:
        raise ConfigError(f"training.adversarial={name} is unknown; {nearest(name, (*NAMED, 'none'))}.")
    return NAMED[name]()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode while examples are sought, and no gradients of the program."""
    training = model.training
    model.eval()
    try:
        with without_parameter_gradients(model):
            yield
    finally:
        model.train(training)
