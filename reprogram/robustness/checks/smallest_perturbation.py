"""The smallest perturbation that fools the model, and its accuracy at several sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from reprogram.errors import ConfigError
from reprogram.ranges import Count, Positive
from reprogram.robustness import flags
from reprogram.robustness.attacks.base import Attack
from reprogram.robustness.attacks.minimum_norm import MinimumNorm
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.attacks.square import Square
from reprogram.robustness.checks.attack import DRAWS
from reprogram.robustness.checks.base import FEW, Check, Examples, Scope, at_least
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Outcome, Row
from reprogram.robustness.smallest import smallest
from reprogram.threat import NORMS, Threat

SEARCHED = 4
LARGEST = {"linf": 0.5, "l2": 1.0, "l1": 1.0}  # where any image can become grey; l2 and l1 in units of their diameter


@dataclass
class SmallestPerturbation(Check):
    """PGD (or Square, where there is no gradient) at several sizes, the minimum-norm attack, and a bisection between them.

    factors: sizes in units of eps; the size at which any image can become grey is always among them. steps: of PGD; the
    minimum-norm attack takes SEARCHED times as many.
    """

    examples: Examples = FEW
    factors: tuple[Positive, ...] = (0.5, 2.0)
    steps: Count = 10

    norms: ClassVar[tuple[str, ...]] = NORMS

    def __post_init__(self) -> None:
        super().__post_init__()
        self.factors = tuple(self.factors)
        at_least(1, steps=self.steps)
        if not all(factor > 0 for factor in self.factors):
            raise ConfigError(f"factors={list(self.factors)}: every factor of eps must be above 0.")

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        threat, count = scope.main, scope.count
        most = _diameter(model, threat.norm)
        known = model.broken.get(threat.norm, {}).get("pgd")
        wanted = {min(threat.eps * factor, most) for factor in self.factors} | {most}
        wanted |= {threat.eps} if known is None else set()
        images, labels = model.images[:count], model.labels[:count]

        def make(at: Threat) -> Attack:
            shared: dict[str, Any] = {"threat": at, "seed": model.seed, "batch_size": model.batch_size}
            return PGD(**shared, steps=self.steps) if model.gradients else Square(**shared, steps=2 * self.steps)

        def search(at: Threat) -> Attack:
            draws, passes = (DRAWS, model.passes) if model.random else (1, 1)
            shared: dict[str, Any] = {"threat": at, "seed": model.seed, "batch_size": model.batch_size, "passes": passes}
            return MinimumNorm(**shared, steps=SEARCHED * self.steps, draws=draws)

        look = search if model.gradients else None
        answer = model.model if model.differentiable or model.through is None else model.through
        nearest, broken = smallest(answer, images, labels, threat.norm, sorted(wanted), make, look)
        if known is not None:  # attacked at this size already
            broken[threat.eps] = known[:count]
        accuracy = {f"{eps:.4g}": float((~mask).float().mean()) for eps, mask in sorted(broken.items())}
        if model.through is not None and answer is not model.through:  # a second look that nothing hides from
            through, _ = smallest(model.through, images, labels, threat.norm, sorted(wanted), make, look)
            nearest.distances = torch.minimum(nearest.distances, through.distances)
        far = torch.minimum(nearest.distances, model.distances.get(threat.norm, nearest.distances)[:count])
        nearest.distances = far
        row = Row(scope.name, "attack", threat.norm, nearest.percentiles((50,))["50"])
        row.n = int(model.clean[:count].sum())
        row.more = {"percentiles": nearest.percentiles(), "curve": accuracy, "family": threat.norm}
        if model.differentiable:
            raised = (flags.not_monotone(broken), flags.not_reaching_chance(broken, model.classes))
            row.flags += [flag for flag in raised if flag]
        distances = torch.full((len(model.images),), float("inf"))
        distances[:count] = far
        return Outcome([row], curves={threat.norm: broken}, distances={threat.norm: distances})


def _diameter(model: EvaluatedModel, norm: str) -> float:
    size = model.images[0].numel()
    return LARGEST[norm] * {"linf": 1.0, "l2": size**0.5 / 2, "l1": size / 2}[norm]
