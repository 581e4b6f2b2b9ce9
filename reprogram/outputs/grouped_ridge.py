"""Kernel ridge over groups: each view of the source is one group of layers, each kind of plain features beside it another.

As :mod:`reprogram.outputs.ridge_taps`, for hybrid programs: plain features are read once, however many views there are, and
what is learned is one weight a group, a handful of numbers that few labels can decide. They start from ``side``, times
exp(``keen`` · n / (n + ``doubt``) · agreement) of each group's distances with the labels of n examples (the area under the
curve of telling two examples of one class from two of different classes; its rank correlation for values), which needs no fit.
From there they are moved by the left-out squared error, against a penalty that is worth ``trust`` examples. With four labels
both say little, and the weights stay near ``side``.

The plain feature ``rocket`` is the signal itself: :meth:`GroupedRidge.fit` takes thresholds of MiniRocket's kernels from the
training signals (:mod:`reprogram.outputs._rocket`), so that whoever fits on a part of the examples fits them on that part alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import Explanation, SourceOutput, SourceSpec, TargetInfo
from reprogram.outputs import _rocket
from reprogram.outputs._ridge import block_kernels, left_out_error
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.ranges import Amount, NotNegative, Positive, Range

STANDARD = ("convolutions", "proportions", "mel_convolutions", "cepstral_convolutions", "mel_patterns", "tone_patterns", "rocket")
ROCKET = "rocket"  # the plain feature that thresholds are fitted on
MOST_THRESHOLDS = 1_000_000
STEPS, RATE = 40, 0.2  # of Adam on the logarithms of the weights
START = -4.6  # logarithm of the ridge strength that learning starts from


@dataclass(eq=False)
class GroupedRidge(RidgeTaps):
    """Classification, multilabel and regression, fitted by one pass over the training examples.

    side: kernel weight of each kind of plain features, one number a feature in the order of ``input.features``, against 1
        for all views together; empty gives each of them as much as all views.
    standard: plain features whose values are each divided by their deviation; the others keep their scale.
    keen: how strongly agreement with the labels moves the start; 0: not at all.
    doubt: training examples with which ``keen`` counts half, because few pairs agree by chance.
    trust: training examples that the start is worth when weights are learned (``weigh=left_out``).
    each: thresholds of each kernel, dilation and representation of ``rocket``.
    thresholds: of all of them, written by :meth:`fit`, so that a kept program knows its shapes.
    found: the weights that :meth:`fit` chose, one a group, views first; they sum to 1.
    """

    side: tuple[Positive, ...] = ()
    standard: tuple[str, ...] = STANDARD
    keen: NotNegative = 12.0
    doubt: NotNegative = 8.0
    trust: NotNegative = 15.0
    each: Annotated[int, Range(1, 100)] = 3
    thresholds: Amount = 0
    found: tuple[NotNegative, ...] = ()

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        super().build(spec, target)
        if self.thresholds > MOST_THRESHOLDS:
            raise ConfigError(f"output.thresholds is {self.thresholds}; allowed: 0 to {MOST_THRESHOLDS}, set by fit")
        self._signals = target.input_shape[0] if target.input_shape else 1
        self._keep_levels(torch.zeros(self.thresholds))
        self._groups: list[tuple[str, int]] = []

    def blocks(self, outputs: list[SourceOutput]) -> list[Tensor]:
        """Every view of every layer as [B, D'], normalised within each example; then the plain features as they are, once."""
        views = [
            SourceOutput(o.logits, o.features, {tap: v for tap, v in o.taps.items() if tap.pooling != "side"})
            for o in outputs
        ]
        found = super().blocks(views)
        beside = {tap.layer: value.float() for tap, value in outputs[0].taps.items() if tap.pooling == "side"}
        if ROCKET in beside:
            beside[ROCKET] = self._shares(beside[ROCKET])
        count = len(outputs) // self.average
        self._groups = [("", len(found) // count)] * count + [(name, 1) for name in beside]
        return found + list(beside.values())

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        values = next((v for tap, v in outputs[0].taps.items() if (tap.layer, tap.pooling) == (ROCKET, "side")), None)
        self._keep_levels(torch.zeros(0) if values is None else _rocket.fitted(self._channels(values.float()), self.each))
        super().fit(outputs, labels)

    def _keep_levels(self, levels: Tensor) -> None:
        """Thresholds [F]; a program without any keeps no tensor for them."""
        self.levels: Tensor | None
        self.thresholds = len(levels)
        self.register_buffer("levels", levels if len(levels) else None)

    def _channels(self, values: Tensor) -> Tensor:
        """[B, C · L] -> [B, C, L]. Raises SourceError."""
        if values.shape[1] % self._signals:
            raise SourceError(f"The program reads signals of {self._signals} channels; these have {values.shape[1]} values")
        return values.unflatten(1, (self._signals, -1))

    def _shares(self, values: Tensor) -> Tensor:
        """Signals [B, C · L] -> [B, F] shares of time above the fitted thresholds. Raises SourceError."""
        signals = self._channels(values)
        wanted = _rocket.width(signals.shape[2]) * self.each
        if self.levels is None or len(self.levels) != wanted:
            raise SourceError(f"output={self.name} has {self.thresholds} thresholds; these signals need {wanted}, set by fit")
        return _rocket.above(signals, self.levels)

    def _scales(self, blocks: list[Tensor]) -> Tensor:
        """[D]: as for layers; a value of a standardised plain feature that hardly moves must not explode outside."""
        scales = list(super()._scales(blocks).split([block.shape[1] for block in blocks]))
        for place, name in enumerate(self._sides(), len(blocks) - len(self._sides())):
            if name in self.standard:
                spread = (blocks[place].double() - blocks[place].double().mean(0)).square().mean(0).sqrt()
                each = 1.0 / spread.clamp_min(1e-3 * spread.max().clamp_min(1e-12))
                norm = (spread * each).square().sum().sqrt().clamp_min(1e-12)
                scales[place] = each / norm / len(blocks) ** 0.5
        return torch.cat(scales)

    def _sides(self) -> list[str]:
        """Names of the plain features, in order; a view has no name."""
        return [name for name, _ in self._groups if name]

    def _start(self) -> Tensor:
        """Weights of the groups before anything was learned."""
        sides, views = len(self._sides()), len(self._groups) - len(self._sides())
        if self.side and len(self.side) != sides:
            raise ConfigError(f"output.side={list(self.side)} must have one number for each of {sides} plain features")
        weights = [1.0 / views] * views + list(self.side or [1.0] * sides)
        return torch.tensor(weights, dtype=torch.float64) / sum(weights)

    def _kernel_weights(self, values: Tensor, sizes: list[int], targets: Tensor) -> Tensor:
        """[D]: square root of each block's kernel weight, on blocks that :meth:`_scales` made equal."""
        start = self._start().to(values.device)
        known = torch.nonzero(~torch.isnan(targets[:, 0])).flatten()
        if self.weigh == "left_out" and len(start) > 1 and len(known) > 2:
            kernels = block_kernels(values[known].split(sizes, 1))
            groups = torch.stack([part.mean(0) for part in kernels.split([size for _, size in self._groups])])
            example = self._example_weights(targets[known])
            agree = torch.tensor([agreement(kernel, targets[known]) for kernel in groups], dtype=torch.float64)
            keen = self.keen * len(known) / (len(known) + self.doubt)
            start = start * (keen * (agree - agree.max())).exp().to(start.device)
            start = start / start.sum()
            start = learn_group_weights(groups, targets[known], example, start, self.trust)
        self.found = tuple(round(float(weight), 6) for weight in start)
        each = torch.cat([w / size * torch.ones(size) for w, (_, size) in zip(start.cpu(), self._groups, strict=True)])
        counts = torch.tensor(sizes, device=values.device)
        return torch.repeat_interleave((each.to(start) * len(sizes)).sqrt(), counts)

    def explain(self) -> list[Explanation]:
        rows = [(f"group {place}", f"{weight:.2f}") for place, weight in enumerate(self.found, 1)]
        note = "One group a view of the source, in the order of the input's pictures; then one for each plain feature."
        return [Explanation("How much each group counts", ("group", "kernel weight"), list(rows), note)] if rows else []


def agreement(kernel: Tensor, targets: Tensor) -> float:
    """0 to 1, 1/2 by chance: do examples that are near by ``kernel`` [n, n] have near targets [n, t]?

    (1 + rank correlation) / 2 over all pairs; where targets differ or not, as classes do, the area under the curve.
    """
    diagonal = kernel.diagonal()
    pairs = torch.triu_indices(len(kernel), len(kernel), 1, device=kernel.device)
    apart = (diagonal[:, None] + diagonal[None] - 2 * kernel)[pairs[0], pairs[1]]
    wanted = torch.cdist(targets, targets)[pairs[0], pairs[1]].round(decimals=9)
    if not len(wanted) or bool((wanted == wanted[0]).all()):
        return 0.5
    ranks = apart.argsort().argsort().double()
    if len(wanted.unique()) == 2:
        same, other = ranks[wanted == wanted.min()], ranks[wanted > wanted.min()]
        return float((other.sum() - len(other) * (len(other) - 1) / 2) / (len(same) * len(other)))
    order = wanted.argsort(stable=True).argsort().double()
    return float((1 + torch.corrcoef(torch.stack([ranks, order]))[0, 1]) / 2)


def learn_group_weights(kernels: Tensor, targets: Tensor, weight: Tensor, start: Tensor, trust: float) -> Tensor:
    """Weights [m] of kernels [m, n, n] that lower the left-out squared error of ridge on targets [n, t].

    The error is counted in shares of the variance; the penalty is ``trust / n`` times the Kullback-Leibler divergence of the
    weights from ``start``. weight [n]: of the examples, mean 1.
    """
    middle = weight @ targets / weight.sum()
    answers = targets - middle
    unit = (weight @ answers.square().sum(1) / len(answers)).clamp_min(1e-12)
    log_weight = start.log().clone().requires_grad_(True)
    log_strength = torch.full((), START, dtype=torch.float64, device=kernels.device, requires_grad=True)
    optimiser = torch.optim.Adam([log_weight, log_strength], RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            optimiser.zero_grad()
            apart = (start * (start.log() - log_weight.log_softmax(0))).sum()
            error = left_out_error(kernels, log_weight, log_strength, answers, weight) / unit
            (error + trust / len(answers) * apart).backward()
            optimiser.step()
    return log_weight.detach().softmax(0)
