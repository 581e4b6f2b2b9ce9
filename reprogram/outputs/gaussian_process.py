"""A Gaussian process over several layers of the frozen source and, in a hybrid program, over plain features beside it.

For few labels (16 to a few hundred). Three groups of values make kernels: the source's taps (each block standardised, all
blocks averaged), each dense feature block beside (descriptors, composition), and each block of 0/1 fingerprints (Tanimoto).
Linear kernels and two radial ones, groups alone and mixed, make a short list of candidates; they are averaged by marginal
likelihood, so that the labels alone say what is read and how. Extremely randomised trees on the dense features can be
averaged with it (classes: half and half; values: by left-out error). On frozen MiniLM: ``docs/results/few_label_sequences.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, TargetInfo
from reprogram.modalities import modality
from reprogram.outputs._kernels import LENGTHS, fit_process, radial, tanimoto
from reprogram.outputs._ridge import inverse_temperature
from reprogram.outputs._trees import Trees, grow
from reprogram.outputs.ridge_taps import _parse
from reprogram.ranges import Amount, Range, Seed

MOST_EXAMPLES = 2000  # a kernel matrix of every training example with every other
SHAPES = 1 + len(LENGTHS)  # linear, then one radial kernel a length
TRUST = {"classification": 0.2, "multilabel": 0.2, "regression": 1.0}  # power of a likelihood that is wrong for classes
FEATURES_LEAD = {"source": 0.3, "dense": 0.6, "standard": 0.6, "bits": 0.1}
FARTHEST = 5.0  # standard deviations; a rare value in a sample of sixteen must not carry the prediction away
WIDEST = 50_000_000  # numbers kept; a program from a stranger cannot ask for all memory


@dataclass(eq=False)
class GaussianProcessMapping(OutputMapping):
    """Classification, multilabel (NaN = missing label) and regression, fitted by one pass over the training examples.

    layers: taps as ``name@pooling``; empty takes the default of ``output=ridge_taps``. average: views that show the same
    thing in a row (other spellings of a string). trees: so many trees on the dense features beside, 0 for none. balanced:
    every class counts the same. units: values of a feature block beside come in different units (descriptors), so each is
    read a second time by its own mean and deviation. seed: of the trees.

    examples, groups, nodes: shapes, written by :meth:`fit`. The program keeps its training rows, in half precision.
    """

    layers: tuple[str, ...] = ()
    average: Annotated[int, Range(1, 1000)] = 1
    trees: Annotated[int, Range(0, 100_000)] = 0
    balanced: bool = True
    units: bool = False
    seed: Seed = 0
    examples: Amount = 0
    groups: tuple[str, ...] = ()
    nodes: Amount = 0

    closed_form: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if self.average < 1 or self.trees < 0:
            raise ConfigError(
                f"output.average={self.average} must be at least 1, output.trees={self.trees} at least 0."
            )
        self._taps = tuple(_parse(text) for text in self.layers or modality(spec.kind).default_layers(spec))
        if not self._taps:
            raise ConfigError("output=gaussian_process reads layers of the source, and this source shows none.")
        self._problem, self._columns = target.problem, len(target.classes)
        self._allocate()

    def _allocate(self) -> None:
        kinds, widths = self._kinds(), [int(group.partition(":")[2]) for group in self.groups]
        if self.examples * sum(widths) + self.trees * self.nodes * (4 + self._columns) > WIDEST:
            raise ConfigError(f"output.examples={self.examples} with output.groups={self.groups} is more than is kept.")
        self._widths = widths
        dense = sum(w for w, kind in zip(widths, kinds) if kind != "bits")
        columns, trees = self._columns, (self.trees if self.nodes else 0, self.nodes)
        self.rows: Tensor = nn.Buffer(torch.zeros(self.examples, sum(widths), dtype=torch.float16))
        self.centre: Tensor = nn.Buffer(torch.zeros(dense))
        self.scale: Tensor = nn.Buffer(torch.ones(dense))
        self.dual: Tensor = nn.Buffer(torch.zeros(self._bases(kinds), self.examples, columns))
        self.bias: Tensor = nn.Buffer(torch.zeros(columns))
        self.sharp: Tensor = nn.Buffer(torch.ones(columns))
        self.tree_share: Tensor = nn.Buffer(torch.zeros(columns))
        self.split: Tensor = nn.Buffer(torch.zeros(trees, dtype=torch.long))
        self.left: Tensor = nn.Buffer(torch.zeros(trees, dtype=torch.long))
        self.right: Tensor = nn.Buffer(torch.zeros(trees, dtype=torch.long))
        self.threshold: Tensor = nn.Buffer(torch.zeros(trees))
        self.value: Tensor = nn.Buffer(torch.zeros(*trees, columns))

    def taps(self):
        return self._taps

    def _kinds(self) -> list[str]:
        return [group.partition(":")[0] for group in self.groups]

    @staticmethod
    def _bases(kinds: list[str]) -> int:
        return sum(1 if kind == "bits" else SHAPES for kind in kinds)

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """Calibrated logits [B, T]; regression: values [B, 1]."""
        if not self.examples:
            raise SourceError("output=gaussian_process must be fitted before it answers")
        groups = _copied(self._read(outputs), self._kinds())
        if [g.shape[1] for g in groups] != self._widths:
            raise SourceError(f"The program knows groups of {self._widths} values; the source and input give others.")
        kernels = self._kernels(self._scaled(groups), self.rows.float())
        scores = torch.einsum("mbn,mnt->bt", kernels, self.dual) + self.bias
        if self.trees and self.nodes:
            grown = Trees(self.split, self.threshold, self.left, self.right, self.value)
            scores = scores + self.tree_share * (grown(self._dense(groups)) - scores)
        middle = 0.0 if self._problem == "regression" else 0.5
        return (scores - middle) * self.sharp + middle * (self._problem == "regression")

    def _read(self, outputs: list[SourceOutput]) -> list[Tensor]:
        """The source's values [B, D] over all taps and groups of views, then each feature block beside."""
        if len(outputs) % self.average:
            raise ConfigError(f"output.average={self.average} does not divide the {len(outputs)} views of the input")
        views = [torch.cat([o.taps[tap].float() for tap in self._taps], 1) for o in outputs]
        means = [torch.stack(views[i : i + self.average]).mean(0) for i in range(0, len(views), self.average)]
        side = [value.float() for tap, value in outputs[0].taps.items() if tap.pooling == "side"]
        return [torch.cat(means, 1), *side]

    def _dense(self, groups: list[Tensor]) -> Tensor:
        return torch.cat([g for g, kind in zip(groups, self._kinds()) if kind == "dense"], 1)

    def _scaled(self, groups: list[Tensor]) -> Tensor:
        """[B, D]: centred and scaled, fingerprints as they are (they stand last in no particular order of scale)."""
        parts, at = [], 0
        for group, kind in zip(groups, self._kinds()):
            if kind == "bits":
                parts.append(group)
                continue
            here = slice(at, at + group.shape[1])
            value = (group - self.centre[here]) * self.scale[here]
            if kind == "standard":
                limit = FARTHEST / float((self.scale[here] > 0).sum().clamp(min=1)) ** 0.5
                value = value.clamp(-limit, limit)
            parts.append(value)
            at += group.shape[1]
        return torch.cat(parts, 1)

    def _kernels(self, values: Tensor, rows: Tensor) -> Tensor:
        """[m, B, n] base kernels: linear and radial for each dense group, Tanimoto for each fingerprint."""
        kernels = []
        for kind, x, known in zip(self._kinds(), values.split(self._widths, 1), rows.split(self._widths, 1)):
            if kind == "bits":
                kernels.append(2.0 * tanimoto(x, known))
                continue
            inner = x @ known.T
            squares = x.square().sum(1), known.square().sum(1)
            kernels += [inner, *(radial(inner, *squares, length) for length in LENGTHS)]
        return torch.stack(kernels)

    def _candidates(self) -> list[list[float]]:
        """Weights of the base kernels: every group alone, every two and all alike, features leading; each shape."""
        kinds = self._kinds()
        mixes = [
            [float(i in chosen) for i in range(len(kinds))]
            for size in (1, 2)
            for chosen in combinations(range(len(kinds)), size)
        ]
        if len(kinds) > 1:
            mixes += [[1.0] * len(kinds), [FEATURES_LEAD[kind] for kind in kinds]]
        found: dict[tuple[float, ...], None] = {}
        for mix in mixes:
            for shape in range(SHAPES):
                weights: list[float] = []
                for amount, kind in zip(mix, kinds):
                    part = amount / sum(mix)
                    weights += [part] if kind == "bits" else [part * (s == shape) for s in range(SHAPES)]
                found[tuple(weights)] = None
        return [list(weights) for weights in found]

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        if len(labels) > MOST_EXAMPLES:
            raise ConfigError(
                f"output=gaussian_process is for up to {MOST_EXAMPLES} labelled examples, here are {len(labels)}; "
                "use output=ridge_taps or give target.labels."
            )
        groups = [g.detach().cpu() for g in self._read(outputs)]
        for group in groups:
            if not torch.isfinite(group).all():
                row = int(torch.nonzero(~torch.isfinite(group).all(1))[0])
                raise SourceError(f"The source or a feature is NaN or infinite for training example {row}")
        kinds = ["source", *(kind for group in groups[1:] for kind in self._kinds_of(group))]
        groups = _copied(groups, kinds)
        self.groups = tuple(f"{kind}:{g.shape[1]}" for kind, g in zip(kinds, groups))
        self.examples, self.nodes = len(labels), 0
        self._allocate()
        self.centre, self.scale = self._normalisation(groups, kinds, len(outputs) // self.average)
        self.rows = self._scaled(groups).half()
        targets, weight = self._targets(labels.cpu())
        bases = self._kernels(self.rows.float(), self.rows.float()).double()
        left_out = torch.zeros_like(targets)
        for columns, known in self._solved_together(targets):
            part = bases[:, known][:, :, known]
            fit = fit_process(part, self._candidates(), targets[known][:, columns], weight[known], TRUST[self._problem])
            for i, column in enumerate(columns):
                self.dual[:, known, column] = fit.dual[:, :, i].float()
                left_out[known, column] = fit.left_out[:, i]
            self.bias[columns] = fit.bias.float()
        self._finish(groups, kinds, targets, weight, left_out)
        self.to(outputs[0].logits.device)

    def _kinds_of(self, group: Tensor) -> tuple[str, ...]:
        """How a feature block beside is read; counts have one unit."""
        if bool(((group == 0) | (group == 1)).all()):
            return ("bits",)
        return ("dense", "standard") if self.units and bool((group != group.round()).any()) else ("dense",)

    def _normalisation(self, groups: list[Tensor], kinds: list[str], copies: int) -> tuple[Tensor, Tensor]:
        """Centre and scale [D]. Source: each value to spread 1, each tap to mean square norm 1, all taps to 1 together.
        Features beside have a scale of their own: the group to mean square norm 1; ``standard``: each value to spread 1."""
        centres, scales = [], []
        for group, kind in zip(groups, kinds):
            if kind == "bits":
                continue
            centre = group.mean(0)
            spread = (group - centre).square().mean(0).sqrt()
            scale = torch.ones_like(spread)
            if kind == "source":
                blocks = spread.view(copies * len(self._taps), -1)  # a value that hardly moves must not explode outside
                floor = (0.03 * blocks.amax(1, keepdim=True)).expand_as(blocks).reshape(-1).clamp_min(1e-12)
                scale = 1.0 / spread.clamp_min(1e-12).maximum(floor)
            if kind == "standard":
                moves = spread > 1e-5 * (1.0 + centre.abs())  # a constant says nothing; its rounding still less
                scale = torch.where(moves, 1.0 / spread.clamp_min(1e-8), 0.0)
            scale = scale / (spread * scale).square().sum().sqrt().clamp_min(1e-12)
            centres.append(centre)
            scales.append(scale)
        return torch.cat(centres), torch.cat(scales)

    def _targets(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """[n, T] in float64, NaN for missing, and row weights [n] of mean 1."""
        if self._problem != "classification":
            return labels.double().reshape(len(labels), -1), torch.ones(len(labels), dtype=torch.float64)
        targets = nn.functional.one_hot(labels.long(), self._columns).double()
        weight = 1.0 / targets.sum(0)[labels.long()]
        return targets, (weight / weight.mean() if self.balanced else torch.ones_like(weight))

    def _solved_together(self, targets: Tensor):
        """(columns, rows with a label): classes together, other columns each for itself."""
        if self._problem == "classification":
            yield list(range(self._columns)), torch.arange(len(targets))
            return
        for column in range(targets.shape[1]):
            known = torch.nonzero(~torch.isnan(targets[:, column])).flatten()
            if len(known):
                yield [column], known

    def _finish(
        self, groups: list[Tensor], kinds: list[str], targets: Tensor, weight: Tensor, left_out: Tensor
    ) -> None:
        """Trees beside, their share by left-out error, and calibration."""
        known = ~torch.isnan(targets)
        if self.trees and "dense" in kinds:
            middle = torch.where(known, targets, 0).sum(0) / known.sum(0).clamp(min=1)
            filled = torch.where(known, targets, middle)
            grown, unseen = grow(self._dense(groups).numpy(), filled.numpy(), weight.numpy(), self.trees, self.seed)
            self.split, self.threshold, self.left, self.right = grown.split, grown.threshold, grown.left, grown.right
            self.value, self.nodes = grown.value, grown.split.shape[1]
            outside = torch.from_numpy(unseen)
            self.tree_share = torch.full((self._columns,), 0.5)
            if self._problem == "regression":  # where a smooth function fits, trees lose by far
                errors = [torch.where(known, (guess - targets).square(), 0).sum(0) for guess in (left_out, outside)]
                worth = [e.clamp_min(1e-12) ** -8 for e in errors]
                self.tree_share = (worth[1] / (worth[0] + worth[1])).nan_to_num(0.5).float()
            left_out = left_out + self.tree_share.double() * (outside - left_out)
        self.left_out = left_out.float() if self._problem == "regression" else None
        if self._problem == "classification":
            self.sharp = inverse_temperature(left_out, targets, exclusive=True).float()
            self.left_out = ((left_out - 0.5) * self.sharp).float()
        elif self._problem == "multilabel":
            for column in range(self._columns):
                rows = known[:, column]
                if rows.any():
                    pair = left_out[rows, column, None], targets[rows, column, None]
                    self.sharp[column] = float(inverse_temperature(*pair, exclusive=False)[0])


def _copied(groups: list[Tensor], kinds: list[str]) -> list[Tensor]:
    """One group a kind: ``standard`` reads the group before it once more."""
    if len(groups) + kinds.count("standard") != len(kinds):
        return groups  # not what the program knows; the caller compares the widths
    given, found = iter(groups), list[Tensor]()
    for kind in kinds:
        found.append(found[-1] if kind == "standard" else next(given))
    return found
