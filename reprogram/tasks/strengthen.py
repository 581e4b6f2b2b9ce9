"""Strengthen a copy of a small source of one's own: adversarial fine-tuning, with robustness before and after."""

from __future__ import annotations

import time
from typing import Annotated, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from reprogram.errors import ConfigError
from reprogram.hooks import Run
from reprogram.progress import console
from reprogram.ranges import Amount, Count, NotNegative, Positive, Range
from reprogram.report import blocks
from reprogram.report.page import Page
from reprogram.report.reproduce import reproduce
from reprogram.report.robustness import robustness
from reprogram.robustness.strengthen import Measured, Strengthening, measure, prove
from reprogram.tasks._run import start
from reprogram.tasks._source_data import checked_source, keep_source, loads_with, own_data
from reprogram.threat import Threat
from reprogram.training.adversarial import AdversarialLoss, PGDTraining

OPTIONS: dict[str, Any] = {
    "task.norm": str,
    "task.eps": Positive,
    "task.epochs": Amount,
    "task.rate": Positive,
    "task.decay": NotNegative,
    "task.batch_size": Count,
    "task.shift": Annotated[int, Range(0, 4096)],
    "task.examples": Count | None,
    "task.test": Count,
    "task.steps": Count,
    "task.certify": Amount,
}


def run(config: DictConfig) -> None:
    """One run, top to bottom."""
    started = time.perf_counter()
    context, task = start(config), config.task
    threat = Threat(task.norm, task.eps)
    source = checked_source(config)[0].to(context.device)
    data = own_data(config, source, task.examples, task.test, context.device)
    settings = Strengthening(task.epochs, task.rate, task.decay, task.batch_size, task.shift)
    before = source.fingerprint()
    model = settings.fit(source, loss_of(config, threat), data.images, data.labels, context.seed)
    if source.fingerprint() != before:
        raise ConfigError(f"The source {source.name} changed while a copy was strengthened; it must stay as it is.")
    seconds = time.perf_counter() - started
    measured = {}
    for when, one in (("before", source_model(source)), ("after", model)):
        found = measure(one, data.test_images, data.test_labels, threat, when, task.steps, context.seed)
        proven = data.test_images[: task.certify], data.test_labels[: task.certify]
        measured[when] = prove(found, one, *proven, threat, when)
    path = keep_source(model.frozen(), context.dir / "model")
    _describe(context, source, measured, threat, seconds, loads_with(source, path))
    _page(context, threat).write(context.dir)
    context.result.write(context.dir)
    console.print(f"{context.result.data['verdict']}\nresults in {context.dir}", markup=False)


def source_model(source):  # type: ignore[no-untyped-def]
    """The untouched source as images -> logits."""
    from reprogram.robustness.unfrozen import Unfrozen

    return Unfrozen(source)


def loss_of(config: DictConfig, threat: Threat) -> AdversarialLoss:
    """``training/adversarial=NAME``, at the task's threat; PGD of five steps where none is named."""
    found = instantiate(config.training.adversarial) if config.training.get("adversarial") else None
    found = found or PGDTraining(seed=config.seed, steps=5)
    for key, value in (("norm", threat.norm), ("eps", threat.eps)):
        if hasattr(found, key):
            setattr(found, key, value)
    return found


def _describe(context: Run, source, measured: dict[str, Measured], threat: Threat, seconds: float, loads: str) -> None:  # type: ignore[no-untyped-def]
    data = context.result.data
    for one in measured.values():
        for row in one.rows:
            row.add_to(context.result)
    before, after = measured["before"], measured["after"]
    data["source"] = {
        "name": source.name, "fingerprint": source.fingerprint(), "parameters": source.parameter_count(),
    }  # fmt: skip
    data["strengthened"] = {
        when: {"clean": m.clean, "robust": m.robust, "certified": m.certified} for when, m in measured.items()
    } | {"loads_with": loads}  # fmt: skip
    data["cost"] = {"train_seconds": seconds}
    data["verdict"] = (
        f"Accuracy under APGD ({threat}) went from {before.robust:.1%} to {after.robust:.1%}, and clean accuracy from "
        f"{before.clean:.1%} to {after.clean:.1%}; {_proven(before, after)}the copy loads with {loads}, and the source did "
        "not change."
    )


def _proven(before: Measured, after: Measured) -> str:
    if before.certified is None or after.certified is None:
        return ""
    return f"what is proven went from {before.certified:.1%} to {after.certified:.1%}; "


def _page(context: Run, threat: Threat) -> Page:
    data = context.result.data
    page = Page(f"{data['source']['name']}, strengthened", kind="Strengthening run", lead=data["verdict"])
    page.section("Before and after", *robustness(data["robustness"]["rows"]))
    page.section("Costs", blocks.facts({"training, seconds": data["cost"]["train_seconds"]}))
    page.section("Reproduce", *reproduce(context, data))
    return page
