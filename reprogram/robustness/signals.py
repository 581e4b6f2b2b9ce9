"""Signals as sensors spoil them, and an attack in the signal's own units: rows of ``robustness=quick|full``.

Strengths are shares of what the training signals show: a deviation is that of a channel over all training signals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprogram.frozen import still
from reprogram.hooks import Hook, Run
from reprogram.modalities._signals import TINY, filled
from reprogram.progress import progress
from reprogram.robustness.findings import share_row
from reprogram.robustness.losses import wrong

if TYPE_CHECKING:
    from reprogram.interfaces import TargetTask
    from reprogram.model import ReprogrammedModel

SEVERITIES = (1, 2, 3, 4, 5)
MOST = 64  # test signals that are looked at
ATTACKED = 32
EPS, STEPS = 0.1, 10  # of a deviation of each channel; gradient steps
Corruption = Callable[[Tensor, int, Tensor, torch.Generator], Tensor]


def noise(x: Tensor, s: int, unit: Tensor, g: torch.Generator) -> Tensor:
    """Gaussian noise; x [B, C, L], unit [1, C, 1] deviations of the channels, severity ``s`` from 0 to 4, as in all here."""
    return x + (0.05, 0.1, 0.2, 0.4, 0.8)[s] * unit * torch.randn(x.shape, generator=g)


def offset(x: Tensor, s: int, unit: Tensor, g: torch.Generator) -> Tensor:
    """One constant added to each channel, up or down."""
    sign = torch.randint(0, 2, (*x.shape[:2], 1), generator=g) * 2.0 - 1.0
    return x + (0.1, 0.25, 0.5, 1.0, 2.0)[s] * unit * sign


def gain(x: Tensor, s: int, unit: Tensor, g: torch.Generator) -> Tensor:
    """Each channel scaled, up or down."""
    power = torch.randint(0, 2, (*x.shape[:2], 1), generator=g) * 2.0 - 1.0
    return x * torch.tensor((1.1, 1.25, 1.5, 2.0, 3.0)[s]) ** power


def time_shift(x: Tensor, s: int, unit: Tensor, g: torch.Generator) -> Tensor:
    """Moved later or earlier; the value at the edge is repeated."""
    steps = max(1, round((0.02, 0.05, 0.1, 0.15, 0.25)[s] * x.shape[2]))
    moves = (torch.randint(0, 2, (len(x), 1, 1), generator=g) * 2 - 1) * steps
    place = (torch.arange(x.shape[2]) + moves).clamp(0, x.shape[2] - 1).expand(x.shape)
    return x.gather(2, place)


def channel_dropout(x: Tensor, s: int, unit: Tensor, g: torch.Generator) -> Tensor:
    """A stretch of the signal, or where there are several one channel for longer, stays at its mean."""
    size = max(1, round((0.05, 0.1, 0.2, 0.35, 0.5)[s] * x.shape[2] * (1 if x.shape[1] == 1 else 2)))
    start = (torch.rand((len(x), 1, 1), generator=g) * max(x.shape[2] - size, 1)).long()
    steps = torch.arange(x.shape[2])
    channel = torch.randint(0, x.shape[1], (len(x), 1, 1), generator=g)
    gone = (steps >= start) & (steps < start + size) & (torch.arange(x.shape[1])[:, None] == channel)
    return torch.where(gone, x.nanmean(2, keepdim=True).expand_as(x), x)


def clipping(x: Tensor, s: int, unit: Tensor, g: torch.Generator) -> Tensor:
    """The sensor ends before the signal does: the outer part of each channel's range is cut off."""
    share = (0.05, 0.1, 0.2, 0.3, 0.4)[s]
    ends = torch.nanquantile(x, torch.tensor([0.0, 1.0]), dim=2, keepdim=True)
    reach = (ends[1] - ends[0]) * share
    return x.clamp(ends[0] + reach, ends[1] - reach)


def low_rate(x: Tensor, s: int, unit: Tensor, g: torch.Generator) -> Tensor:
    """Sampled less often: every sample is held."""
    step = (2, 3, 4, 6, 10)[s]
    return x[..., torch.arange(x.shape[2]) // step * step]


CORRUPTIONS: dict[str, Corruption] = {
    function.__name__: function for function in (noise, offset, gain, time_shift, channel_dropout, clipping, low_rate)
}


def corrupt(name: str, signals: Tensor, severity: int, unit: Tensor, seed: int = 0) -> Tensor:
    """``signals`` [B, C, L] under one of :data:`CORRUPTIONS` of severity 1 to 5; the same seed gives the same signals.

    unit: deviations [C] of the channels. A missing value stays missing.
    """
    generator = torch.Generator().manual_seed(seed * 10 + severity)
    spoiled = CORRUPTIONS[name](filled(signals), severity - 1, unit[None, :, None], generator)
    return torch.where(torch.isfinite(signals), spoiled, signals)


def attack(model: Any, signals: Tensor, labels: Tensor, unit: Tensor, eps: float = EPS, steps: int = STEPS) -> Tensor:
    """Projected gradient ascent (Madry et al. 2018, arXiv 1706.06083): signals within ``eps`` deviations ``unit`` [C] of each
    channel at every sample, with the largest loss on the way. Missing values stay missing."""
    reach = eps * unit[None, :, None]
    known = torch.isfinite(signals)
    best, worst = signals.clone(), torch.full((len(signals),), -float("inf"))
    moved = signals.clone()
    for step in range(steps + 1):
        moved = moved.detach().requires_grad_(step < steps)
        logits = model(moved)
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        higher = losses.detach() > worst
        best[higher], worst[higher] = moved.detach()[higher], losses.detach()[higher]
        if step == steps:
            break
        (slope,) = torch.autograd.grad(losses.sum(), moved)
        stride = 2.5 * reach / steps * slope.nan_to_num().sign()
        near = (moved.detach() + stride).clamp(signals - reach, signals + reach)
        moved = torch.where(known, near, signals)
    return best


def units(signals: Tensor) -> Tensor:
    """[C] deviation of each channel over all signals [N, C, L]."""
    known = signals.transpose(0, 1).flatten(1)
    return torch.stack([channel[torch.isfinite(channel)].std(correction=0).clamp_min(TINY) for channel in known])


class SignalChecks(Hook):
    """Rows for every corruption, for all of them, and for the attack."""

    def on_fit_end(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        rng = np.random.default_rng(run.seed)
        picked = np.sort(rng.permutation(len(target.test))[:MOST])
        signals = target.test.batch(picked)
        labels = torch.as_tensor(np.asarray(target.test.labels)[picked])
        unit = units(target.train.batch(np.arange(len(target.train))))
        with still(model):
            self._corruptions(run, model, signals, labels, unit)
            if model.source.differentiable:
                self._attack(run, model, signals[:ATTACKED], labels[:ATTACKED], unit)

    def _corruptions(self, run: Run, model: Any, signals: Tensor, labels: Tensor, unit: Tensor) -> None:
        every, rows = [], []
        threat = f"corruption of the signal, severities {list(SEVERITIES)}"
        with progress("robustness: signals", len(CORRUPTIONS) * len(SEVERITIES)) as bar:
            for name in CORRUPTIONS:
                right = []
                for severity in SEVERITIES:
                    changed = corrupt(name, signals, severity, unit, run.seed)
                    right.append(~wrong(_logits(model, changed), labels))
                    bar.advance()
                shares = [float(part.float().mean()) for part in right]
                more = {"by_severity": shares, "family": "corruption"}
                rows.append(share_row(name, "estimate", threat, torch.cat(right), **more))
                every.append(torch.cat(right))
        for row in (share_row("signal_corruptions", "estimate", f"all, {threat}", torch.cat(every)), *rows):
            row.add_to(run.result)

    def _attack(self, run: Run, model: Any, signals: Tensor, labels: Tensor, unit: Tensor) -> None:
        right = [
            ~wrong(_logits(model, attack(model, part, answer, unit)), answer)
            for part, answer in zip(signals.split(16), labels.split(16), strict=True)
        ]
        threat = f"linf {EPS:g} deviations of each channel, {STEPS} gradient steps"
        row = share_row("signal_pgd", "attack", threat, torch.cat(right), access="white_box", family="signal", size=EPS)
        row.add_to(run.result)


@torch.no_grad()
def _logits(model: Any, signals: Tensor) -> Tensor:
    return torch.cat([model(part).cpu() for part in signals.split(32)])
