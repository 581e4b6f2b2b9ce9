"""Twelve defences of the literature that were broken, each around the same kind of small network, with what breaks it.

``SmallNet`` reads 28 x 28 digits. A defence is a module that looks robust to plain gradients; ``opened`` is the same
module as somebody who knows the trick would attack it: the same answers in the limit, and gradients that help.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallNet(nn.Sequential):
    """Two convolutions and a linear layer; ``channels`` of the input."""

    def __init__(self, channels: int = 1, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__(
            nn.Conv2d(channels, 16, 5, 2, 2), activation(), nn.Conv2d(16, 32, 5, 2, 2), activation(), nn.Flatten(),
            nn.Linear(32 * 7 * 7, 10),
        )  # fmt: skip


def trained(
    net: nn.Module, images: Tensor, labels: Tensor, seed: int, epochs: int = 6, soft: Tensor | None = None, heat: float = 1.0
) -> nn.Module:
    """Adam on the cross-entropy; with ``soft`` [N, T] on these probabilities, at the temperature ``heat``."""
    torch.manual_seed(seed)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            wanted = labels[rows] if soft is None else soft[rows]
            loss = F.cross_entropy(net.train()(images[rows]) / heat, wanted)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval().requires_grad_(False)


class Before(nn.Module):
    """A change of the input in front of a network."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.change(images))


class After(nn.Module):
    """A change of the logits behind a network."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.net(images))


class WinnersOnly(nn.Module):
    """k-winners-take-all (Xiao et al. 2019): only the largest activations of a layer pass."""

    def __init__(self, share: float = 0.1) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(1, int(self.share * flat.shape[1])), dim=1).values[:, -1:]
        return (flat * (flat >= least)).view_as(x)


class Dropout(nn.Module):
    """Dropout that stays on (stochastic activation pruning)."""

    def __init__(self, share: float = 0.3) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.dropout(x, self.share, training=True))


def levels(images: Tensor, count: int = 8) -> Tensor:
    """Fewer grey values (feature squeezing, Xu et al. 2017)."""
    return torch.round(images * (count - 1)) / (count - 1)


def bytes_of(images: Tensor) -> Tensor:
    """Through whole numbers from 0 to 255."""
    return (images * 255).to(torch.uint8).float() / 255


@torch.no_grad()
def blurred(images: Tensor) -> Tensor:
    """A preprocessing step that was written for NumPy-like use, without gradients."""
    return F.avg_pool2d(images, 3, 1, 1)


def thermometer(images: Tensor, count: int = 8) -> Tensor:
    """One plane a level: is the pixel above it (Buckman et al. 2018)?"""
    steps = (torch.arange(count, device=images.device) / count).view(1, -1, 1, 1)
    return (images > steps).float()


def noisy(images: Tensor) -> Tensor:
    """Gaussian noise on the input of every pass."""
    return (images + 0.25 * torch.randn_like(images)).clamp(0, 1)


def shifted(images: Tensor) -> Tensor:
    """Random resizing and padding (Xie et al. 2018)."""
    side = int(torch.randint(24, 29, (1,)))
    small = F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    left, top = int(torch.randint(0, 29 - side, (1,))), int(torch.randint(0, 29 - side, (1,)))
    return F.pad(small, (left, 28 - side - left, top, 28 - side - top))


@dataclass
class Defence:
    """model: what is evaluated. opened: what the adaptive attack climbs. random: it answers differently each time."""

    model: nn.Module
    opened: nn.Module
    random: bool = False
    reads: str = ""  # which trick it is, for the table


def defences(images: Tensor, labels: Tensor, seed: int) -> dict[str, Defence]:
    """All twelve, trained on ``images`` [N, 1, 28, 28] and ``labels``."""
    torch.manual_seed(seed)
    plain = trained(SmallNet(), images, labels, seed)

    def fresh(change: Callable[[Tensor], Tensor], channels: int = 1, epochs: int = 6) -> nn.Module:
        net = SmallNet(channels)
        trained(Before(net, change), images, labels, seed, epochs)
        return net

    heat = 100.0
    teacher = trained(SmallNet(), images, labels, seed, 10, heat=heat)
    soft = torch.cat([(teacher(part) / heat).softmax(1) for part in images.split(256)])
    student = trained(SmallNet(), images, labels, seed + 1, 10, soft=soft, heat=heat)
    squeezed, squashed, smoothed = fresh(levels), fresh(bytes_of), fresh(blurred)
    coded, noised, moved = fresh(thermometer, 8), fresh(noisy, epochs=10), fresh(shifted, epochs=10)
    winners = trained(SmallNet(activation=WinnersOnly), images, labels, seed, 10)
    dropped = trained(SmallNet(activation=Dropout), images, labels, seed, 10)
    steps = (torch.arange(8) / 8).view(1, -1, 1, 1)
    return {
        "none (control)": Defence(plain, plain, reads="no defence"),
        "distillation": Defence(student, After(student, lambda z: z / heat), reads="logits of a distilled net, x 100"),
        "scaled logits": Defence(After(plain, lambda z: 1e4 * z), plain, reads="logits x 10,000"),
        "rounded probabilities": Defence(
            After(plain, lambda z: torch.round(z.softmax(1) * 1e3) / 1e3), plain, reads="probabilities to three digits"
        ),
        "fewer grey values": Defence(Before(squeezed, levels), squeezed, reads="input rounded to 8 levels"),
        "bytes": Defence(Before(squashed, bytes_of), squashed, reads="input cast to uint8"),
        "no_grad": Defence(
            Before(smoothed, blurred), Before(smoothed, lambda x: F.avg_pool2d(x, 3, 1, 1)), reads="blur inside no_grad"
        ),
        "thermometer": Defence(
            Before(coded, thermometer),
            Before(coded, lambda x: torch.sigmoid(20 * (x - steps))),
            reads="one plane a grey level",
        ),
        "noise": Defence(Before(noised, noisy), Before(noised, noisy), True, reads="Gaussian noise on the input, std 0.25"),
        "resize and pad": Defence(Before(moved, shifted), Before(moved, shifted), True, reads="random size and place"),
        "dropout": Defence(dropped, dropped, True, reads="dropout that stays on"),
        "winners only": Defence(winners, winners, reads="k-winners-take-all activations"),
        "detached": Defence(After(plain, lambda z: z.detach() + 0 * z), plain, reads="logits detached, a zero gradient left"),
    }
