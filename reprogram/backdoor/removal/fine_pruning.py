"""Fine-Pruning (Liu, Dolan-Gavitt & Garg 2018, arXiv 1805.12185): channels that sleep on clean images are cut, then tuned."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reprogram.backdoor.removal.base import TOLERANCE, CleanSet, Wash, Washed
from reprogram.errors import ConfigError
from reprogram.ranges import Amount, NotNegative, Positive, Share
from reprogram.robustness.unfrozen import learn


@dataclass
class FinePruning(Wash):
    """Channels of the last convolution, least active first, as many as held-out accuracy allows (``tolerance``).

    epochs, rate, decay: of fine-tuning afterwards, with the cut channels kept at zero.
    """

    tolerance: Share = TOLERANCE
    epochs: Amount = 20
    rate: Positive = 1e-3
    decay: NotNegative = 5e-4

    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        order = _activity(model, clean.images).argsort()
        start, curve, cut = clean.held_accuracy(model), [], 0
        for count in range(1, len(order)):
            held = clean.held_accuracy(pruned(model, order[:count]))
            curve.append({"at": count / len(order), "held": held})
            if held < start - self.tolerance:
                break
            cut = count
        kept = pruned(model, order[:cut])
        learn(kept, clean.images, clean.labels, self.epochs, self.rate, seed, decay=self.decay)
        return Washed(kept, cut / len(order), curve)


def _last_convolution(model: nn.Module) -> tuple[nn.Conv2d, nn.modules.batchnorm._BatchNorm | None]:
    """It and the BatchNorm behind it, in the order of ``modules()``."""
    modules = list(model.modules())
    places = [i for i, m in enumerate(modules) if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    if not places:
        raise ConfigError("Fine-Pruning needs a convolution, and this model has none.")
    place = places[-1]
    behind = modules[place + 1] if place + 1 < len(modules) else None
    convolution = modules[place]
    assert isinstance(convolution, nn.Conv2d)
    return convolution, behind if isinstance(behind, nn.modules.batchnorm._BatchNorm) else None


@torch.no_grad()
def _activity(model: nn.Module, images: Tensor) -> Tensor:
    """Mean positive activation of each channel of the last convolution (behind its BatchNorm) on clean images."""
    convolution, norm = _last_convolution(model)
    seen: list[Tensor] = []
    handle = (norm or convolution).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.relu().mean((0, 2, 3)) * len(output))
    )
    try:
        for part in images.split(128):
            model(part)
    finally:
        handle.remove()
    return torch.stack(seen).sum(0) / len(images)


def pruned(model: nn.Module, channels: Tensor) -> nn.Module:
    """A copy whose last convolution is silent in these channels, and stays so while it learns."""
    found = copy.deepcopy(model)
    convolution, norm = _last_convolution(found)
    for parameter in (*convolution.parameters(), *(norm.parameters() if norm is not None else ())):
        keep = torch.ones_like(parameter)
        keep[channels] = 0.0
        with torch.no_grad():
            parameter.mul_(keep)
        parameter.register_hook(lambda gradient, keep=keep: gradient * keep)
    return found
