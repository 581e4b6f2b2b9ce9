"""What strengthening gained: the same program trained plainly, under the same attack on the same examples."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from reprogram.hooks import Run
from reprogram.model import ReprogrammedModel
from reprogram.result import Result
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.base import Model, ask, in_batches
from reprogram.robustness.attacks.ensemble import Ensemble
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.losses import wrong
from reprogram.robustness.rows import Row, share_row
from reprogram.robustness.subject import Outcome, Subject, still
from reprogram.threat import Threat

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


def before_after(subject: Subject, threat: Threat, steps: int, count: int, plain: Callable[[], Any]) -> Outcome:
    """PGD and APGD-DLR on the first ``count`` examples, before and after strengthening; ``plain`` trains the former."""
    images, labels = subject.images[:count], subject.labels[:count]

    def look(model: Model, name: str) -> Row:
        shared: dict[str, Any] = {"threat": threat, "seed": subject.seed, "batch_size": subject.batch_size}
        attack = Ensemble([PGD(**shared, steps=steps), APGD(**shared, steps=steps, loss="dlr")])
        found = attack(model, images, labels)
        answers = in_batches(lambda x: ask(model, x), images, subject.batch_size)
        right = float((~wrong(answers, labels)).float().mean())
        return share_row(name, "attack", f"{threat}, pgd and apgd_dlr", ~found.broken, clean=right)

    weak = plain()
    with still(weak):
        before = look(weak, "before_strengthening")
    after = look(subject.model, "after_strengthening")
    gained = (after.value or 0.0) - (before.value or 0.0)
    after.more |= {"gained": gained, "clean_lost": before.more["clean"] - after.more["clean"]}
    return Outcome([before, after])
