"""What the classes are called, read by the frozen source itself, as the first guess that few labels refine.

A source that reads text beside its inputs (:attr:`SourceSpec.read_names`: a sentence encoder, CLIP) says how well "This text
is about {name}." fits an input: P = softmax of the scaled cosines of features and names. That is an answer without any
label. With labels it is the prior mean of the closed-form ridge of :mod:`reprogram.outputs.ridge_taps`: the ridge learns
what is missing, y - share·P. Names can mislead, so ``share`` (0: no names at all) and the strength of the penalty are those
of highest likelihood of the exact left-out answers, under a prior that is worth about one label. Where no class has two
labels nothing can be left out, and that prior decides. Measured: ``docs/results/few_label_text.md``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, SourceError
from reprogram.interfaces import Explanation, SourceOutput, SourceSpec, TargetInfo
from reprogram.modalities import modality
from reprogram.outputs._ridge import fit_ridge, highest_likelihood, inverse_temperature, left_out_paths
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.ranges import NotNegative

STRENGTHS = tuple(10.0**e for e in range(-4, 2))  # λ / n, on a kernel of mean diagonal 1
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
USUAL_SHARE, USUAL_STRENGTH = 1.0, 1e-2  # before any label is seen
LEAST = 0.03  # share that counts as none where its distance from the usual one is taken
SHARE_DOUBT, STRENGTH_DOUBT = 0.1, 0.25  # cost of a factor of 2 in the share, of 10 in the strength: squared, in nats


@dataclass(eq=False)
class LabelNames(RidgeTaps):
    """Classification; works from zero labels (``target.shots=0``) on.

    template: a sentence with ``{}`` where the name goes; null takes that of the modality. ``target.descriptions`` are read
        as they are, without it.
    trust: labels that the usual share and strength are worth; 0 leaves the choice to the left-out answers alone.
    share: how much the names count, 0 to 1, written by :meth:`fit`.
    normalise: as in ``output=ridge_taps``; the deviation of a value over a few labels is a poor scale.

    Saved beside ``weight`` and ``bias``: ``names`` [T, D], what the source made of them.
    """

    balanced: bool = True
    template: str | None = None
    trust: NotNegative = 1.0
    share: NotNegative = 1.0
    normalise: str = "l2"

    without_labels: ClassVar[bool] = True

    def build(self, spec: SourceSpec, target: TargetInfo) -> None:
        if target.problem != "classification":
            raise ConfigError(f"output=label_names needs classes, but target {target.name} is {target.problem}")
        if spec.read_names is None or spec.feature_size is None:
            raise ConfigError(
                "output=label_names needs a source that reads class names (source=minilm, text, clip); this one does not"
            )
        super().build(spec, target)
        self._size = spec.feature_size
        names = spec.read_names(self.texts(target)).float()
        self.names: Tensor = nn.Buffer(names.to(self.weight.device))
        self.amount: Tensor = nn.Buffer(torch.zeros(1))

    def texts(self, target: TargetInfo) -> list[str]:
        """What the source reads for each class: its description, or its name in a sentence."""
        template = self.template or modality(target.kind).says_class
        if template.count("{}") != 1:
            raise ConfigError(f"output.template='{template}' must contain {{}} once, where the name of the class goes")
        told = target.descriptions or target.classes
        return [template.format(in_words(n)) if d == n else d for n, d in zip(target.classes, told, strict=True)]

    def forward(self, outputs: list[SourceOutput]) -> Tensor:
        """Calibrated logits [B, T]; those of the names alone before anything was learned."""
        scores = self._scores(outputs)
        if not self.width:
            return scores
        return super().forward(outputs) + self.amount * scores.softmax(1)

    def _scores(self, outputs: list[SourceOutput]) -> Tensor:
        """[B, T] scaled cosines of features and names, averaged over views."""
        found = []
        for output in outputs:
            if output.features is None or output.features.shape[1] != self._size:
                raise SourceError("output=label_names needs the features that its source reads names with")
            with torch.autocast(output.features.device.type, enabled=False):
                found.append(torch.nn.functional.normalize(output.features.float(), dim=1) @ self.names.T)
        return torch.stack(found).mean(0)

    @torch.no_grad()
    def fit(self, outputs: list[SourceOutput], labels: Tensor) -> None:
        values, sizes, scale, centre = self._prepared(outputs)
        targets = self._targets(labels.to(values.device))
        weight = self._example_weights(targets)
        prior = self._scores([output.detach() for output in outputs]).double().softmax(1)
        share, _ = self._choose(values, targets, prior, weight)
        root = self._kernel_weights(values, sizes, targets - share * prior)
        values = values * root.to(values.dtype)
        share, strength = self._choose(values, targets, prior, weight)
        ridge = fit_ridge(values, targets - share * prior, weight, [strength], shared=True)
        left_out = ridge.left_out + share * prior
        times = inverse_temperature(left_out, targets, exclusive=True)
        self.share = share
        self.amount = (share * times[:1]).float()
        self._keep(ridge.weight * times * (scale * root)[:, None], ridge.bias * times, centre, left_out * times)

    def _choose(self, values: Tensor, targets: Tensor, prior: Tensor, weight: Tensor) -> tuple[float, float]:
        """(share, strength) of highest likelihood of the left-out answers and ``trust`` in the usual ones.

        An example whose class has no other is not asked: what is left knows nothing of its class.
        """
        asked = targets.sum(0)[targets.argmax(1)] > 1
        if not asked.any():
            return USUAL_SHARE, USUAL_STRENGTH
        answers, priors = (left_out_paths(values, wanted, weight, STRENGTHS) for wanted in (targets, prior))
        best, found = math.inf, (USUAL_SHARE, USUAL_STRENGTH)
        for share in SHARES:
            likely = highest_likelihood((answers + share * (prior - priors))[:, asked], targets[asked])
            for strength, likelihood in zip(STRENGTHS, likely.tolist(), strict=True):
                cost = self.trust * _doubt(share, strength) - likelihood
                if cost < best - 1e-9:
                    best, found = cost, (share, strength)
        return found

    def explain(self) -> list[Explanation]:
        note = "0: not at all, the labels alone decide. 1: the labels only correct what the names say."
        return [Explanation("Class names", ("how much they count",), [(round(self.share, 2),)], note)]


def _doubt(share: float, strength: float) -> float:
    """Squared distance from the usual share and strength, in nats."""
    apart, factor = math.log2(max(share, LEAST) / USUAL_SHARE), math.log10(strength / USUAL_STRENGTH)
    return SHARE_DOUBT * apart**2 + STRENGTH_DOUBT * factor**2


def in_words(name: str) -> str:
    """A name as people would write it: ``comp.sys.mac`` and ``MoneyMarket`` become words."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = " ".join(re.sub(r"[\W_]+", " ", apart).split())
    return words or name
