"""Closed-form kernel ridge over several layers, poolings and views of the frozen source.

Each view of each tap, and the pooled features, is one block. A block's vectors are normalised, centred, and scaled to
mean square norm 1; blocks are averaged as kernels, so a layer with more channels does not count for more. How much each
block counts, and then λ of a ridge regression on one-hot labels, are chosen by the exact leave-one-out squared error
(:mod:`reprogram.outputs._ridge`): early layers for drawings, late ones for photographs, from training labels alone. What
is kept is the primal weight of every value read, [D, T], with centring, scaling and calibration folded in.

Several layers are worth more than any pixel prompt with few labels: see ``docs/results/few_label_vision.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, Tap, TargetInfo
from reprogram.modalities import modality
from reprogram.outputs._ridge import block_kernels, fit_ridge, inverse_temperature, learn_kernel_weights
from reprogram.ranges import Amount, Range

FLOAT32_LIMIT = 100_000  # weights kept as float32 up to 400 KB, as float16 beyond
WEIGHED_EXAMPLES = 640  # examples that kernel weights are learned on
WIDEST = 50_000_000  # weights; a program from a stranger cannot ask for all memory
STRENGTHS = tuple(10.0 ** (e / 2) for e in range(-12, 3))  # λ / n: 1e-6 … 10, on a kernel of mean diagonal 1


@dataclass(eq=False)
class RidgeTaps(OutputMapping):
    """Classification, multilabel (NaN = missing label) and regression, fitted by one pass over the training examples.

    layers: taps as ``name@pooling``; empty takes those of the source's modality.
    head: also read the penultimate features, as signed square root.
    normalise: ``l2`` (each example's block to length 1; images), ``standard`` (each value by its mean and deviation;
        sequences), ``none``, or ``auto`` by the source's kind.
    weigh: ``left_out`` learns how much each block counts (a few numbers, by the left-out squared error); ``equal``.
    average: views seen as the same thing, e.g. 2 for an image and its mirror image that follow each other: their blocks
        are averaged before the kernel. 1 keeps every view apart.
    balanced: weigh examples so that every class (multilabel: both answers of each task) counts the same.
    width: D, the number of values read an example; written by :meth:`fit`, so that a kept program knows its shapes.

    Saved: ``weight`` [D, T] (float32 up to 400 KB, else float16) and ``bias`` [T]. The default on EfficientNet-Lite0 with
    one view has D = 7,040: 282 KB for ten classes.
    """

    layers: tuple[str, ...] = ()
    head: bool = True
    normalise: str = "auto"
    weigh: str = "left_out"
    average: Annotated[int, Range(1, 1000)] = 1
    balanced: bool = False
    width: Amount = 0

    closed_form: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if self.normalise not in ("auto", "l2", "standard", "none"):
            raise ConfigError(f"output.normalise is '{self.normalise}'; allowed: auto, l2, standard, none")
        if self.weigh not in ("left_out", "equal"):
            raise ConfigError(f"output.weigh is '{self.weigh}'; allowed: left_out, equal")
        if self.average < 1:
            raise ConfigError(f"output.average is {self.average}; allowed: 1 or more views")
        self._how = self.normalise if self.normalise != "auto" else modality(spec.kind).normalise
        self._taps = tuple(_parse(text) for text in self.layers or modality(spec.kind).default_layers(spec))
        self._features = self.head and spec.feature_size is not None
        self._problem, self._columns = target.problem, len(target.classes)
        if not self._taps and not self._features and not spec.labels:
            raise ConfigError("output=ridge_taps has nothing to read: the source has no layers, features or labels")
        if not 0 <= self.width * self._columns <= WIDEST:
            raise ConfigError(f"output.width is {self.width}; allowed: 0 to {WIDEST // self._columns}, set by fit")
        self.register_buffer("weight", torch.zeros(self.width, self._columns, dtype=self._kept_type(self.width)))
        self.register_buffer("bias", torch.zeros(self._columns))

    def taps(self) -> tuple[Tap, ...]:
        return self._taps

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """Calibrated logits [B, T]; regression: values [B, 1]."""
        values = torch.cat(self.blocks(outputs), 1)
        if values.shape[1] != len(self.weight):
            read, has = values.shape[1], len(self.weight)
            raise SourceError(
                f"output={self.name} must be fitted before it answers"
                if has == 0
                else f"The program weighs {has} values an example but the source and views give {read}"
            )
        with torch.autocast(values.device.type, enabled=False):  # centring was folded in: bfloat16 would cancel
            return values.float() @ self.weight.float() + self.bias

    def blocks(self, outputs: list[SourceOutput]) -> list[Tensor]:
        """Every view of every tap as [B, D'], normalised within each example."""
        if len(outputs) % self.average:
            raise ConfigError(f"output.average={self.average} does not divide the {len(outputs)} views of the input")
        views = [self._read(output) for output in outputs]
        groups = [views[i : i + self.average] for i in range(0, len(views), self.average)]
        return [torch.stack(same).mean(0) for group in groups for same in zip(*group, strict=True)]

    def _read(self, output: SourceOutput) -> list[Tensor]:
        values = [output.taps[tap].float() for tap in self._taps]
        values += [value.float() for tap, value in output.taps.items() if tap.pooling == "side"]  # a hybrid program
        if self._features:
            if output.features is None:
                raise SourceError("output.head=true needs the source's features, and the source answers none")
            values.append(signed_root(output.features.float()))
        if not values:  # a model behind an API shows nothing but its labels, up to a constant for each input
            values = [output.logits.float() - output.logits.float().mean(1, keepdim=True)]
        return [torch.nn.functional.normalize(v, dim=1) for v in values] if self._how == "l2" else values

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        values, sizes, scale, centre = self._prepared(outputs)
        targets = self._targets(labels.to(values.device))
        weight = torch.zeros(values.shape[1], self._columns, dtype=torch.float64, device=values.device)
        bias = torch.zeros(self._columns, dtype=torch.float64, device=values.device)
        left_out = torch.full(targets.shape, float("nan"), dtype=torch.float64, device=values.device)
        for columns in self._columns_solved_together(targets):
            root_weights = self._kernel_weights(values, sizes, targets[:, columns])
            w, b, left = self._solve(values * root_weights.to(values.dtype), targets[:, columns])
            weight[:, columns], bias[columns] = w * (scale * root_weights)[:, None], b
            left_out[:, columns] = left
        self._keep(weight, bias, centre, left_out)

    def _prepared(self, outputs: list[SourceOutput]) -> tuple[Tensor, list[int], Tensor, Tensor]:
        """Values [N, D] with their blocks made equal, widths of the blocks, what each value was multiplied by [D], and the
        mean before that [D]."""
        blocks = self.blocks([output.detach() for output in outputs])
        scale = self._scales(blocks)
        values = torch.cat(blocks, 1)
        if not torch.isfinite(values).all():
            row = int(torch.nonzero(~torch.isfinite(values).all(1))[0])
            raise SourceError(f"The source answers NaN or infinity for training example {row}")
        centre = values.mean(0, dtype=torch.float64)
        values *= scale.to(values.dtype)
        return values, [block.shape[1] for block in blocks], scale, centre

    def _keep(self, weight: Tensor, bias: Tensor, centre: Tensor, left_out: Tensor) -> None:
        self.left_out = left_out.float()
        self.width = len(weight)
        self.weight = weight.to(self._kept_type(self.width))
        self.bias = (bias + centre @ (weight - self.weight.double())).float()  # rounding must not move the mean answer

    def _kernel_weights(self, values: Tensor, sizes: list[int], targets: Tensor) -> Tensor:
        """[D]: square root of each block's kernel weight, on blocks that :meth:`_scales` made equal."""
        known = torch.nonzero(~torch.isnan(targets[:, 0])).flatten()
        equal = torch.ones(values.shape[1], dtype=torch.float64, device=values.device)
        if self.weigh == "equal" or len(sizes) == 1 or len(known) < 2 * len(sizes):
            return equal
        if len(known) > WEIGHED_EXAMPLES:  # a sample is enough for a few numbers
            known = known[torch.linspace(0, len(known) - 1, WEIGHED_EXAMPLES).round().long().to(known.device)]
        kernels = block_kernels(values[known].split(sizes, 1))
        root_weights = learn_kernel_weights(kernels, targets[known], self._example_weights(targets[known]))
        return torch.repeat_interleave((root_weights * len(sizes)).sqrt(), torch.tensor(sizes, device=values.device))

    def _kept_type(self, width: Amount) -> torch.dtype:
        small = width * self._columns <= FLOAT32_LIMIT
        return torch.float32 if small or self._how != "l2" else torch.float16  # unit-length blocks stay in half's range

    def _solve(self, values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Primal weights [D, t], bias [t] and left-out logits [N, t] (NaN where there is no label) of target columns that
        share their labelled rows."""
        known = ~torch.isnan(targets[:, 0])
        values, targets = values[known], targets[known]
        exclusive = self._problem == "classification"
        fit = fit_ridge(values, targets, self._example_weights(targets), STRENGTHS, shared=exclusive)
        left_out = torch.full((len(known), targets.shape[1]), float("nan"), dtype=torch.float64, device=values.device)
        left_out[known] = fit.left_out
        if self._problem == "regression":
            return fit.weight, fit.bias, left_out
        sharp, middle = inverse_temperature(fit.left_out, targets, exclusive), 0.0 if exclusive else 0.5
        return fit.weight * sharp, (fit.bias - middle) * sharp, (left_out - middle) * sharp

    def _scales(self, blocks: list[Tensor]) -> Tensor:
        """[D]: brings each block to mean square norm 1 around its mean, and the average of their kernels to 1."""
        scales = []
        for block in blocks:
            centred = block.double() - block.double().mean(0)
            spread = centred.square().mean(0).sqrt()
            if self._how == "standard":  # a value that hardly moves in the sample must not explode outside it
                floor = 1e-3 * spread.max().clamp_min(1e-12)
                scale = 1.0 / spread.clamp_min(floor)
            else:
                scale = torch.ones_like(spread)
            norm = (spread * scale).square().sum().sqrt().clamp_min(1e-12)
            scales.append(scale / norm / len(blocks) ** 0.5)
        return torch.cat(scales)

    def _targets(self, labels: Tensor) -> Tensor:
        """[N, T] float64: one-hot columns for classes (a class without examples keeps its column)."""
        if self._problem == "classification":
            return torch.nn.functional.one_hot(labels.long(), self._columns).double()
        return labels.double().reshape(len(labels), -1)

    def _columns_solved_together(self, targets: Tensor) -> list[list[int]]:
        """Columns with the same labelled rows and the same example weights share one factorisation."""
        if self._problem == "classification":
            return [list(range(targets.shape[1]))]
        if self._problem == "multilabel" and self.balanced:
            return [[t] for t in range(targets.shape[1]) if not torch.isnan(targets[:, t]).all()]
        groups: dict[bytes, list[int]] = {}
        for t in range(targets.shape[1]):
            known = ~torch.isnan(targets[:, t])
            if known.any():
                groups.setdefault(known.cpu().numpy().tobytes(), []).append(t)
        return list(groups.values())

    def _example_weights(self, targets: Tensor) -> Tensor:
        """[N], mean 1."""
        if not self.balanced or self._problem == "regression":
            return torch.ones(len(targets), dtype=torch.float64, device=targets.device)
        group = targets.argmax(1) if self._problem == "classification" else targets[:, 0].round().long()
        counts = torch.bincount(group).double()
        weight = 1.0 / counts[group]
        return weight * (len(weight) / weight.sum())


def signed_root(values: Tensor) -> Tensor:
    """sign(v)·√|v|: tames the few large values of pooled features; gradient finite at 0."""
    return torch.sign(values) * ((values.abs() + 1e-8).sqrt() - 1e-4)


def _parse(text: str) -> Tap:
    layer, at, pooling = text.partition("@")
    if not layer or (at and not pooling):
        raise ConfigError(f"output.layers has '{text}'; a layer is written name@pooling, such as block_16@2")
    return Tap(layer, pooling or "1")
