"""Gaussian noise on the weights: as much as held-out clean accuracy allows."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from reprogram.backdoor.removal.base import TOLERANCE, CleanSet, Wash, Washed, recompute_batch_norm
from reprogram.ranges import Length, Positive, Share


@dataclass
class WeightNoise(Wash):
    """sizes: of the noise in units of each tensor's standard deviation; the largest within ``tolerance`` is chosen."""

    sizes: Annotated[tuple[Positive, ...], Length()] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    tolerance: Share = TOLERANCE

    def wash(self, model: nn.Module, clean: CleanSet, other: nn.Module | None = None, seed: int = 0) -> Washed:
        start, chosen, curve = clean.held_accuracy(model), (0.0, copy.deepcopy(model)), []
        for size in self.sizes:
            noisy = self.noisy(model, size, seed)
            recompute_batch_norm(noisy, clean.images)
            held = clean.held_accuracy(noisy)
            curve.append({"at": size, "held": held})
            if held >= start - self.tolerance:
                chosen = (size, noisy)
        return Washed(chosen[1], chosen[0], curve)

    @staticmethod
    @torch.no_grad()
    def noisy(model: nn.Module, size: float, seed: int) -> nn.Module:
        """A copy with Gaussian noise of relative ``size`` on every weight."""
        found, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
        for parameter in found.parameters():
            if parameter.requires_grad and parameter.numel() > 1:
                spread = float(parameter.std())
                parameter.add_(size * spread * torch.randn(parameter.shape, generator=generator).to(parameter))
        return found
