"""How much of its source's robustness a program keeps, beside a plain linear probe on the same source.

Robustness is known to be inherited from a robust source and not to appear from nothing (Li et al. 2023,
arXiv 2311.10992). The source has no labelled data of its own here, so its robustness is how often it keeps *its own*
answer to the same images under the same attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprogram.ranges import Count
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.checks.base import FEW, Check, Examples, Scope, at_least
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Outcome, Row, share_row
from reprogram.robustness.reading import as_read

if TYPE_CHECKING:
    from reprogram.interfaces import SourceModel, SourceOutput

SOURCE_SIDE = 128  # pixels at which the bare source reads, or its own side if that is smaller


class BareSource(nn.Module):
    """A source without any program: target images, resized and coloured as it reads them, to its own logits [B, S]."""

    def __init__(self, source: SourceModel, side: int = SOURCE_SIDE) -> None:
        super().__init__()
        self.source, self.side = source, min(source.spec.size, side)

    def answer(self, images: Tensor) -> SourceOutput:
        return self.source(as_read(images, self.source.spec.channels, self.side))

    def forward(self, images: Tensor) -> Tensor:
        return self.answer(images).logits


class ProbedSource(nn.Module):
    """Logistic regression on the source's features, fitted on labelled images, differentiable to the pixels."""

    weight: Tensor
    bias: Tensor

    def __init__(self, bare: BareSource, images: Tensor, labels: Tensor, classes: int) -> None:
        from sklearn.linear_model import LogisticRegression

        super().__init__()
        self.bare = bare
        with torch.no_grad():
            features = torch.cat([self._features(part) for part in images.split(64)])
        mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
        fitted = LogisticRegression(max_iter=500).fit(((features - mean) / spread).cpu().numpy(), labels.cpu().numpy())
        weight = torch.zeros(classes, features.shape[1], device=features.device)
        bias = torch.full((classes,), -1e4, device=features.device)  # a class without labels is never answered
        rows = torch.as_tensor(fitted.classes_, device=features.device)
        found, offset = torch.as_tensor(fitted.coef_).float(), torch.as_tensor(fitted.intercept_).float()
        if len(rows) == 2:  # scikit-learn keeps one row for two classes
            found, offset = torch.cat([-found, found]) / 2, torch.cat([-offset, offset]) / 2
        weight[rows], bias[rows] = found.to(weight), offset.to(bias)
        self.register_buffer("weight", weight / spread)
        self.register_buffer("bias", bias - (weight / spread) @ mean)

    def _features(self, images: Tensor) -> Tensor:
        answer = self.bare.answer(images)
        return answer.logits if answer.features is None else answer.features

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(self._features(images), self.weight, self.bias)


@dataclass
class Inheritance(Check):
    """The source's own robustness, the probe's, and the program's relative to both. steps: of PGD."""

    examples: Examples = FEW
    steps: Count = 20

    kind: ClassVar[str] = "estimate"
    access: ClassVar[str] = "white_box"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, steps=self.steps)

    @property
    def takes(self) -> tuple[str, ...]:
        return "train", "source"

    def fits(self, model: EvaluatedModel, norm: str | None = None) -> bool:
        return super().fits(model, norm) and isinstance(model.source, BareSource)

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        threat, count = scope.main, scope.count
        attack = PGD(threat, model.seed, model.batch_size, steps=self.steps)
        images, labels = model.images[:count], model.labels[:count]
        with torch.no_grad():
            own = torch.cat([model.source(part).argmax(1) for part in images.split(model.batch_size)])
        kept = ~attack(model.source, images, own).broken
        clean = int(model.clean[:count].sum())
        robust = int(model.robust(threat.norm)[:count].sum())
        share = robust / clean if clean else None
        rows = [share_row("source_own_answers", "attack", f"{threat}, pgd on the bare source", kept)]
        row = Row(scope.name, "estimate", str(threat), None, n=count)
        if share is not None and bool(kept.any()):
            row.value = share / float(kept.float().mean())
        row.more = {"program_keeps": share, "source_keeps": float(kept.float().mean())}
        if model.train is not None:
            probe = ProbedSource(model.source, *model.train, model.classes)
            found = attack(probe, images, labels)
            with torch.no_grad():
                right = torch.cat([probe(p).argmax(1) for p in images.split(model.batch_size)]) == labels
            about = f"{threat}, pgd"
            rows.append(share_row("linear_probe", "attack", about, ~found.broken, clean=float(right.float().mean())))
            row.more["probe_robust"], row.more["program_robust"] = found.accuracy, robust / max(1, count)
        return Outcome([*rows, row])
