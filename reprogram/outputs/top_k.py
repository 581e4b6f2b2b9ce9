"""A many-to-one map on standardised logits: no gradient, one query an image, nothing but source labels needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.interfaces import SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs._ridge import inverse_temperature
from reprogram.outputs.base import LabelMapping
from reprogram.ranges import Count

CANDIDATES = (5, 10, 20, 50, 100)
LEFT_OUT = 512


@dataclass(eq=False)
class TopK(LabelMapping):
    """Mean of a target label's k best source labels, each standardised over the training examples.

    z = (logit - mean) / deviation for each source label and view, so that what matters is how much *more* than usual a
    source label fires; z is averaged over views. A source label's score for a target label is its mean z over the
    label's examples against its deviation within labels; the k best are kept, their weights summing to 1. No weight is
    negative: each target label is read from source labels that speak for it, as in every label mapping.

    k: source labels per target label; null chooses among 5 … 100 by the likelihood of left-out examples.
    views: number of views, written by :meth:`fit`, so that a kept program knows its shapes.
    """

    k: Count | None = None
    views: Count = 1

    closed_form: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if self.k is not None and not 1 <= self.k <= self.source_labels:
            raise ConfigError(f"output.k is {self.k}; allowed: 1 to {self.source_labels}, or null to choose")
        if not 1 <= self.views <= 64:
            raise ConfigError(f"output.views is {self.views}; allowed: 1 to 64, set by fit")
        uniform = torch.full((self.source_labels, self.target_labels), 1.0 / self.source_labels)
        self.weight: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.sharp: Tensor
        self.register_buffer("weight", uniform)
        self.register_buffer("centre", torch.zeros(self.views, self.source_labels))
        self.register_buffer("spread", torch.ones(self.views, self.source_labels))
        self.register_buffer("sharp", torch.ones(()))

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        return self.standardised(outputs) @ self.weight * self.sharp

    def standardised(self, outputs: list[SourceOutput]) -> Tensor:
        """z [B, S], averaged over views."""
        if len(outputs) != len(self.centre):
            raise ConfigError(f"The program reads {len(self.centre)} views but the input gives {len(outputs)}")
        logits = torch.stack([output.logits.float() for output in outputs])
        return ((logits - self.centre[:, None]) / self.spread[:, None]).mean(0)

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        logits = torch.stack([output.logits.float() for output in outputs])
        self.views = len(outputs)
        self.centre = logits.mean(1)
        self.spread = logits.std(1, correction=0).clamp_min(1e-3)
        z = self.standardised(outputs)
        one_hot = torch.nn.functional.one_hot(labels.long(), self.target_labels).to(z)
        candidates = [self.k] if self.k is not None else [k for k in CANDIDATES if k <= self.source_labels] or [1]
        left_out, truth = left_out_scores(z, one_hot, candidates)
        sharp = [inverse_temperature(scores, truth, exclusive=True)[0] for scores in left_out]
        losses = [-((scores * f).log_softmax(1) * truth).sum() for scores, f in zip(left_out, sharp, strict=True)]
        best = int(torch.stack(losses).argmin())
        self.sharp = sharp[best].float()
        self.weight = keep_best(*evidence(z, one_hot), candidates[best])

    def weights(self) -> Tensor:
        return self.weight


def evidence(z: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
    """z [N, S], labels [N, T] -> mean z of each source label in each target label [S, T], deviation within them [S]."""
    count = one_hot.sum(0)
    mean = z.T @ one_hot / count.clamp_min(1)
    within = (z.square().sum(0) - mean.square() @ count) / count.sum().clamp_min(1)
    return mean, within.clamp_min(0).sqrt()


def keep_best(mean: Tensor, deviation: Tensor, k: int) -> Tensor:
    """[S, T] weights: of the k best scores mean / (deviation + 0.3), mean / (deviation² + 0.1), negative ones dropped.

    The constants keep a source label that hardly moves in a small sample from winning by luck. Columns sum to 1; one
    without evidence is uniform.
    """
    best = (mean / (deviation + 0.3)[:, None]).topk(k, dim=0).indices
    strength = (mean / (deviation.square() + 0.1)[:, None]).clamp_min(0)
    weight = torch.zeros_like(mean).scatter_(0, best, strength.gather(0, best))
    total = weight.sum(0)
    return torch.where(total > 0, weight / total.clamp_min(1e-12), torch.full_like(weight, 1.0 / len(weight)))


def left_out_scores(z: Tensor, one_hot: Tensor, candidates: list[int]) -> tuple[list[Tensor], Tensor]:
    """For each k, [n, T] scores of examples by the map made without them, and their labels (at most 512 examples)."""
    rows = torch.linspace(0, len(z) - 1, min(len(z), LEFT_OUT)).round().long().to(z.device)
    scores: list[list[Tensor]] = [[] for _ in candidates]
    for row in rows:
        rest = torch.arange(len(z), device=z.device) != row
        mean, deviation = evidence(z[rest], one_hot[rest])
        for kept, k in zip(scores, candidates, strict=True):
            kept.append(z[row] @ keep_best(mean, deviation, k))
    return [torch.stack(kept).double() for kept in scores], one_hot[rows].double()
