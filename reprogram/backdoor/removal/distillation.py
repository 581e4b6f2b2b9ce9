"""A new student learns what the given model answers on warped and mixed clean examples, where that can be trusted.

Distillation (Hinton, Vinyals & Dean 2015, arXiv 1503.02531) into random weights, which hold no trigger. An example has its
label and a mixture of two has two of them: an answer that is none of these is what a trigger would give (warps and faint
mixtures can look like one), so the labels take its place.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.backdoor.removal.base import CleanSet, Wash, Washed
from reprogram.progress import progress
from reprogram.ranges import Count, NotNegative, Positive, Range, Share
from reprogram.robustness.augment import bent
from reprogram.training.augment import Affine

APART = 15_485_863  # so that no student starts where a model built with the same seed did: what it held would come along


@dataclass
class Distillation(Wash):
    """steps: of AdamW with a one-cycle ``rate``, on ``batch_size`` warped images and as many mixtures of two of them.

    labels: weight of the clean labels beside what is taught. decay: weight decay. rotate (degrees), scale, shift, shear
    and bend (shares of the side): how far the examples are warped. noise: every second image that the student sees is
    blended with uniform noise by up to this share, while the model answers without it.

    It has nothing to choose, so it learns from all clean examples, those that other ways hold out among them. The
    student starts from random weights of the same architecture, so that it suits models which a few hundred examples
    can teach; a large pretrained model loses what they do not show.
    """

    steps: Count = 800
    rate: Positive = 1e-2
    decay: NotNegative = 1e-4
    labels: NotNegative = 1.0
    rotate: Annotated[float, Range(0, 180)] = 15.0
    scale: Annotated[float, Range(0, 0.99)] = 0.15
    shift: Share = 0.06
    shear: Annotated[float, Range(0, 10)] = 0.2
    bend: Share = 0.06
    noise: Share = 0.4
    batch_size: Count = 64

    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        student, generator = untrained(model, seed), torch.Generator().manual_seed(seed)
        weights = [p for p in student.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(weights, self.rate, weight_decay=self.decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.rate, total_steps=self.steps)
        images, labels = torch.cat([clean.images, clean.held_images]), torch.cat([clean.labels, clean.held_labels])
        with torch.no_grad():
            known = images, F.one_hot(labels, model(images[:1]).shape[1]).to(images)
        student.train()
        with progress("teaching a new student", self.steps) as bar:
            for _ in range(self.steps):
                seen, shares = self.batch(*known, generator)
                logits, wanted = student(self.noisy(seen, generator)), self.taught(model, seen, shares)
                told = F.cross_entropy(logits[: self.batch_size], shares[: self.batch_size].to(logits))
                loss = F.kl_div(logits.log_softmax(1), wanted, reduction="batchmean") + self.labels * told
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                bar.advance()
        return Washed(student.eval())

    def batch(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Warped images and mixtures of two [2 B, C, H, W], and the shares of their labels [2 B, S]; labels: [N, S], 0 or 1."""
        rows = torch.randint(len(images), (self.batch_size,), generator=generator)
        warp = Affine(self.rotate, self.scale, self.shift, self.shear)
        seen = bent(warp(images[rows], generator), self.bend, generator)
        one = labels[rows]
        order = torch.randperm(self.batch_size, generator=generator)
        part = torch.rand((self.batch_size, 1), generator=generator).to(seen)
        both = part[..., None, None] * seen + (1 - part[..., None, None]) * seen[order]
        return torch.cat([seen, both]), torch.cat([one, part * one + (1 - part) * one[order]])

    def noisy(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Half of the images, drawn at random, under noise."""
        draw = torch.rand((2, len(images), 1, 1, 1), generator=generator)
        part = (self.noise * draw[0] * (draw[1] < 0.5)).to(images)
        return (1 - part) * images + part * torch.rand(images.shape, generator=generator).to(images)

    @staticmethod
    @torch.no_grad()
    def taught(model: nn.Module, images: Tensor, shares: Tensor) -> Tensor:
        """What the model answers [B, S] where its first choice is among the labels, and the labels elsewhere."""
        answer = model(images).softmax(1)
        trusted = shares.gather(1, answer.argmax(1, keepdim=True)) > 0
        return torch.where(trusted, answer, shares)


@torch.no_grad()
def untrained(model: nn.Module, seed: int) -> nn.Module:
    """A copy with new random weights where it learns.

    Layers draw them as they did when they were built; other tensors keep their values in a random order, so that their
    size stays and what they hold is gone.
    """
    found = copy.deepcopy(model)
    left = {id(p): p for p in found.parameters() if p.requires_grad}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + APART)
        for module in found.modules():
            own = [id(p) for p in module.parameters(recurse=False)]
            if own and left.keys() >= set(own) and hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
                left = {key: p for key, p in left.items() if key not in own}
        for parameter in left.values():
            order = torch.randperm(parameter.numel()).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return found
