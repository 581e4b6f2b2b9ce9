"""Robust accuracy under one attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from reprogram.progress import progress
from reprogram.robustness.attacks.base import Attack
from reprogram.robustness.checks.base import Check, Scope, class_of
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Flag, Outcome, Row, share_row
from reprogram.robustness.smallest import Smallest
from reprogram.threat import NORMS

ON_JUMPS = 40  # times the queries of random search where gradients do not foresee the answers
DRAWS = 5  # passes averaged for each gradient of a model that answers at random (EOT, Athalye et al. 2018)


@dataclass
class AttackCheck(Check):
    """attack: an attack with its options, still without threat, seed and batch size (``_partial_: true``).

    remaining_only: attack only examples that the attacks before left correctly classified, as AutoAttack does; the
    accuracy is that of all of them, and where something hides the model's gradients they pass through it (BPDA). half:
    also run with half the steps, to see whether more steps help. through: only where something hides gradients, and
    through it; beside the same attack on plain gradients this shows what they miss.
    """

    attack: Callable[..., Attack] | None = None
    remaining_only: bool = False
    half: bool = False
    through: bool = False

    norms: ClassVar[tuple[str, ...]] = NORMS

    def __post_init__(self) -> None:
        super().__post_init__()
        class_of(self.attack, Attack, "reprogram.robustness.attacks.pgd.PGD")  # type: ignore[type-abstract]
        self._options: dict[str, Any] = dict(getattr(self.attack, "keywords", {}))
        self.method.check(self._options)

    @property
    def method(self) -> type[Attack]:
        """The class of the attack."""
        return cast(type[Attack], getattr(self.attack, "func", self.attack))

    def fits(self, model: EvaluatedModel, norm: str | None = None) -> bool:
        method = self.method
        return (
            (norm is None or norm in method.norms)
            and (method.access != "white_box" or model.differentiable or self._passes_through(model))
            and all(getattr(model, name) is not None for name in method.requires)
            and (model.through is not None or not self.through)
        )

    def _passes_through(self, model: EvaluatedModel) -> bool:
        """Is the attack run with gradients that pass through what hides them?"""
        return model.through is not None and (self.through or self.remaining_only) and self.method.access == "white_box"

    def _access(self, model: EvaluatedModel) -> str:
        return "straight_through" if self._passes_through(model) else self.method.access

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        outcome = Outcome(access={scope.name: self._access(model)})
        if self.half:
            shorter = self._made(model, scope, steps=max(self.steps // 2, 1))
            self._attack(model, scope, shorter, outcome, f"{scope.name}_half")
        found = self._made(model, scope)
        shares, queries = self._attack(model, scope, found, outcome, scope.name)
        outcome.rows.append(self._row(model, scope, found, shares, queries))
        return outcome

    @property
    def takes(self) -> tuple[str, ...]:
        return tuple(self.method.takes.values())

    @property
    def steps(self) -> int:
        """Of the attack."""
        return int(self._options.get("steps", self.method.__dataclass_fields__["steps"].default))

    def _made(self, model: EvaluatedModel, scope: Scope, **changes: Any) -> Attack:
        assert self.attack is not None
        given = {name: getattr(model, source) for name, source in self.method.takes.items()}
        if model.random and self.method.averages:
            given["draws"] = max(int(self._options.get("draws", 1)), DRAWS)
        if model.jumps and self.method.access == "score":
            given["steps"] = ON_JUMPS * self.steps
        shared: dict[str, Any] = {"threat": scope.threat, "seed": model.seed, "batch_size": model.batch_size}
        return self.attack(**shared, passes=model.passes, **given | changes)

    def _rows(self, model: EvaluatedModel, scope: Scope) -> Tensor:
        """Examples that are attacked."""
        if self.remaining_only and model.gradients:
            return torch.nonzero(model.robust(scope.main.norm)[: scope.count]).squeeze(1)
        return torch.arange(min(scope.count, len(model.images)))

    def _attack(
        self, model: EvaluatedModel, scope: Scope, attack: Attack, outcome: Outcome, name: str
    ) -> tuple[Tensor, Tensor]:
        """Survival [N] and queries of one attack; what it found is added to the outcome."""
        norm, total, rows = scope.main.norm, len(model.images), self._rows(model, scope)
        images, labels = model.images[rows], model.labels[rows]
        answer = model.through if self._passes_through(model) else model.model
        assert answer is not None
        with progress(f"robustness: {name} {norm}", len(images)) as bar:
            found = attack(answer, images, labels, bar.advance, model.clean[rows])
        nearest = Smallest.empty(norm, images)
        nearest.update(images, found.examples, found.broken)
        broken, distances = torch.zeros(total, dtype=torch.bool), torch.full((total,), float("inf"))
        broken[rows], distances[rows] = found.broken, nearest.distances
        outcome.broken.setdefault(norm, {})[name] = broken
        shares = torch.ones(total)
        shares[rows] = found.survival
        outcome.survival.setdefault(norm, {})[name] = shares
        outcome.access.setdefault(name, outcome.access[scope.name])
        before = outcome.distances.get(norm, distances)
        outcome.distances[norm] = torch.minimum(before, distances)
        return shares, found.queries

    def _row(self, model: EvaluatedModel, scope: Scope, attack: Attack, shares: Tensor, queries: Tensor) -> Row:
        good, remaining = shares[: scope.count], self.remaining_only and model.gradients
        if remaining:
            good = torch.minimum(good, model.survives(scope.main.norm)[: scope.count])
        unseen = attack.crafts_on_even_rows and len(good) > 1
        spent = float(queries.mean()) if len(queries) else 0.0
        row = share_row(
            scope.name,
            "attack",
            str(scope.main),
            good[1::2] if unseen else good,
            queries=spent,
            access=self._access(model),
        )
        row.more |= {"family": scope.main.norm, "size": scope.main.eps}
        if remaining:
            row.threat += ", on examples still classified correctly"
            row.more["attacked"] = len(queries)
        if unseen:
            row.flags.append(Flag("crafted_on_half", "crafted on the other half of the examples"))
        if self._access(model) == "white_box" and (model.masked or model.jumps or model.through is not None):
            row.flags.append(Flag("proves_nothing", "gradients are hidden or mislead: this attack is no evidence"))
        return row
