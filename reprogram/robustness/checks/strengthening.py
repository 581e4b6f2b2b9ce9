"""What strengthening gained: the same program trained plainly, under the same attack on the same examples."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from reprogram.frozen import still
from reprogram.hooks import Run
from reprogram.model import ReprogrammedModel
from reprogram.result import Result
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.base import Model, ask, in_batches
from reprogram.robustness.attacks.ensemble import AttackEnsemble
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.checks.base import FEW, Check, Examples, Scope
from reprogram.robustness.evaluated_model import EvaluatedModel
from reprogram.robustness.findings import Outcome, Row, share_row
from reprogram.robustness.losses import wrong

if TYPE_CHECKING:
    from reprogram.interfaces import TargetTask

FOLDER = "checkpoint/before_strengthening"  # of the run folder: where the plain training keeps its state


def strengthened(run: Run) -> bool:
    """Was this run's program trained with ``training.adversarial``?"""
    chosen = run.config.get("training", {}).get("adversarial")
    return run.config.get("task", {}).get("name") == "reprogram" and bool(chosen) and chosen != "none"


def trained_plainly(run: Run, model: ReprogrammedModel, target: TargetTask) -> ReprogrammedModel:
    """The same input, output, data, seed and training, without ``training.adversarial``."""
    from hydra.utils import instantiate

    settings = copy.deepcopy(run.config["training"]) | {"adversarial": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        before, behind = type(model.input)(**model.input.config()), type(model.output)(**model.output.config())
        plain = ReprogrammedModel(model.source, before, behind, model.target).to(model.device)
        quiet = Run(run.dir / FOLDER, run.seed, Result("reprogram", run.seed), run.device, run.resume, config=run.config)
        instantiate(settings).fit(plain, target.train, quiet)
    return plain


@dataclass
class StrengtheningCheck(Check):
    """PGD and APGD-DLR before and after strengthening. steps: of each. plain: trains the program without it."""

    examples: Examples = FEW
    steps: int = 20
    plain: Callable[[], Any] | None = None

    access: ClassVar[str] = "white_box"

    def run(self, model: EvaluatedModel, scope: Scope) -> Outcome:
        assert self.plain is not None
        weak = self.plain()
        with still(weak):
            before = self._look(model, weak, "before_strengthening", scope)
        after = self._look(model, model.model, "after_strengthening", scope)
        gained = (after.value or 0.0) - (before.value or 0.0)
        after.more |= {"gained": gained, "clean_lost": before.more["clean"] - after.more["clean"]}
        return Outcome([before, after])

    def _look(self, about: EvaluatedModel, model: Model, name: str, scope: Scope) -> Row:
        images, labels = about.images[: scope.count], about.labels[: scope.count]
        shared: dict[str, Any] = {"threat": scope.main, "seed": about.seed, "batch_size": about.batch_size}
        attack = AttackEnsemble([PGD(**shared, steps=self.steps), APGD(**shared, steps=self.steps, loss="dlr")])
        found = attack(model, images, labels)
        answers = in_batches(lambda x: ask(model, x), images, about.batch_size)
        right = float((~wrong(answers, labels)).float().mean())
        return share_row(name, "attack", f"{scope.main}, pgd and apgd_dlr", ~found.broken, clean=right)

    def config(self) -> dict[str, Any]:
        return {"examples": self.examples, "steps": self.steps}
