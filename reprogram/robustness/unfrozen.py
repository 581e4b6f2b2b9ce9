"""A copy of a source whose weights may change: what washing and strengthening work on. The source itself never changes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.errors import SourceError
from reprogram.full_precision import full_precision
from reprogram.interfaces import SourceModel
from reprogram.robustness.attacks.base import ask, in_batches

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Unfrozen(nn.Module):
    """Images [B, C, H, W] in [0, 1] -> logits [B, S], with parameters that learn and BatchNorm that follows ``train()``.

    Raises SourceError for a black-box (query-only) source: it has no weights here.
    """

    def __init__(self, source: SourceModel) -> None:
        super().__init__()
        if not source.differentiable or not any(True for _ in source.parameters()):
            raise SourceError(f"The source {source.name} is a black-box model: its weights cannot be changed here.")
        self.source = copy.deepcopy(source).requires_grad_(True)
        self.eval()

    def train(self, mode: bool = True) -> Unfrozen:
        """Reaches the layers directly, because a source refuses to leave eval mode."""
        self.training = mode
        for module in self.source.modules():
            module.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        with full_precision(images.device):  # what is measured of a copy is what its file gives
            return self.source.answer(images).logits

    def frozen(self) -> SourceModel:
        """A source again, for inspection, programs and saving."""
        found = copy.deepcopy(self.source)
        found.freeze()
        return found


def plain(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy."""
    return F.cross_entropy(model(images), labels)


def learn(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    rate: float = 1e-3,
    seed: int = 0,
    loss: Loss = plain,
    batch_size: int = 64,
    decay: float = 0.0,
    advance: Callable[[], object] | None = None,
) -> nn.Module:
    """Adam with a one-cycle rate over ``epochs`` passes of images [N, C, H, W], labels [N]; ends in eval mode.

    loss: ``loss(model, images, labels) -> scalar``. decay: weight decay, decoupled. Deterministic in ``seed``.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(images) // batch_size)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(1, epochs * batches))
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(batch_size):
            value = loss(model, images[rows], labels[rows])
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
        if advance is not None:
            advance()
    return model.eval()


def answers(model: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 256) -> Tensor:
    """Predicted labels [N]."""
    return in_batches(lambda x: ask(model, x).argmax(1), images, batch_size)


def accuracy(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """Share of images whose answer is the label."""
    return float((answers(model, images) == labels).float().mean())
