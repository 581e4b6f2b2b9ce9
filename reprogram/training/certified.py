"""Training for certificates (``training/adversarial=certified``): the loss bounds the worst case instead of sampling it.

Interval bound propagation with a schedule (Gowal et al. 2018, arXiv 1810.12715; the short warm-up of Shi et al. 2021,
arXiv 2103.17268, without its initialisation): first plain training, then the box grows to its size, and the share of the
plain loss falls. The finished model is checked by tighter bounds than it was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.errors import ConfigError
from reprogram.ranges import Positive, Share
from reprogram.training.adversarial import AdversarialLoss
from reprogram.training.intervals import Interval

PLAIN, GROWN = 0.1, 0.6  # shares of the training after which the box begins to grow, and has its size


@dataclass
class CertifiedTraining(AdversarialLoss):
    """norm, eps: the threat, in pixels of the target; linf alone, for a box is what intervals bound.

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
