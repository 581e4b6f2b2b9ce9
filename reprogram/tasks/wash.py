"""Wash a model, or a program, that may hide a Trojan, with a small clean set; beside what any repair has to beat."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.backdoor.removal.base import CleanSet, Wash, Washed
from reprogram.backdoor.removal.fine_pruning import FinePruning
from reprogram.backdoor.removal.fine_tuning import FineTuning
from reprogram.backdoor.removal.mode_connectivity import check_same
from reprogram.backdoor.removal.noise import WeightNoise
from reprogram.backdoor.triggers.base import Trigger
from reprogram.errors import ConfigError
from reprogram.frozen import still
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel
from reprogram.model import ReprogrammedModel
from reprogram.progress import console, progress
from reprogram.ranges import Count, Length, Positive
from reprogram.report import blocks, charts
from reprogram.report.page import Page
from reprogram.report.reproduce import reproduce
from reprogram.report.robustness import robustness
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.findings import share_row
from reprogram.robustness.unfrozen import Unfrozen, answers
from reprogram.tasks._run import start, whole_target
from reprogram.tasks._source_data import (
    OwnData,
    another,
    checked_source,
    keep_source,
    loads_with,
    own_data,
    read_as_it_is,
)
from reprogram.threat import Threat

BESIDE: tuple[type[Wash], ...] = (FineTuning, FinePruning, WeightNoise)
ROBUST_IMAGES, ROBUST_STEPS = 100, 10  # of the robust accuracy along the path


OPTIONS: dict[str, Any] = {
    "task.other": str | None,
    "task.programs": Annotated[list[str], Length(2, 2)] | None,
    "task.examples": Count,
    "task.test": Count,
    "task.eps": Positive,
    "task.compare": bool,
}


@dataclass
class Case:
    """What is washed: one model or program, perhaps a second one, and the data of its labels."""

    model: nn.Module
    other: nn.Module | None
    data: OwnData
    source: SourceModel


def run(config: DictConfig) -> None:
    """One run, top to bottom."""
    started = time.perf_counter()
    context, task = start(config), config.task
    case = programs(config, context) if task.programs else sources(config, context)
    data, clean = case.data, CleanSet.of(case.data.images, case.data.labels, context.seed)
    trigger: Trigger | None = instantiate(config.trigger) or None
    if trigger is not None:
        trigger(data.test_images[:1])  # one that does not fit is refused before anything is trained
    measures = Measures(data.test_images, data.test_labels, trigger, Threat("linf", task.eps))
    method: Wash = instantiate(config.wash)
    washed = {method.name: method.wash(case.model, clean, case.other, context.seed)}
    for make in BESIDE if task.compare else ():
        if make is not type(method) and not (make is FinePruning and task.programs):
            washed[make().name] = make().wash(case.model, clean, None, context.seed)
    for found in washed.values():
        if isinstance(found.model, ReprogrammedModel):  # measured as it will be kept
            found.model.settle()
    rows = {"as it came": measures(case.model)} | {name: measures(found.model) for name, found in washed.items()}
    chosen = washed[method.name]
    curve = path(chosen, measures)
    loads = keep(chosen.model, case, context.dir)
    describe(context, case, rows, curve, method, chosen, loads, time.perf_counter() - started)
    page(context, rows, curve).write(context.dir)
    context.result.write(context.dir)
    console.print(f"{context.result.data['verdict']}\nresults in {context.dir}", markup=False)


def sources(config: DictConfig, context: Run) -> Case:
    """``source=`` and, with ``task.other=FILE_OR_FOLDER``, a second one of the same architecture."""
    source = checked_source(config)[0].to(context.device)
    model, other = Unfrozen(source), None
    if config.task.other is not None:
        other = Unfrozen(another(config, str(config.task.other), "task.other")[0].to(context.device))
        check_same(model, other)
    data = own_data(config, source, config.task.examples, config.task.test, context.device)
    return Case(model, other, data, source)


def programs(config: DictConfig, context: Run) -> Case:
    """``task.programs=[DIR,DIR]``: two programs of one kind on one source, for one target."""
    folders = [str(folder) for folder in config.task.programs]
    if len(folders) != 2:
        raise ConfigError(f"task.programs names {len(folders)} programs; a path needs two, as in task.programs=[A,B].")
    first = from_pretrained(folders[0], device=context.device)
    second = from_pretrained(folders[1], source=first.source, device=context.device)
    check_same(first, second)
    if not any(p.requires_grad for p in first.parameters()):
        raise ConfigError(f"The program {folders[0]} has nothing that was trained by steps, so that there is no path.")
    data = read_as_it_is(config, whole_target(config), config.task.examples, config.task.test, context.device)
    return Case(first, second, data, first.source)


@dataclass
class Measures:
    """Test figures of one model: clean accuracy, attack success where a trigger is known, robust accuracy."""

    images: Tensor
    labels: Tensor
    trigger: Trigger | None
    threat: Threat

    def __call__(self, model: nn.Module) -> dict[str, float | None]:
        with still(model):
            clean = float((answers(model, self.images) == self.labels).float().mean())
            success = None
            if self.trigger is not None:
                success = self.trigger.success(answers(model, self.trigger(self.images)), self.labels)
            attack = PGD(self.threat, steps=ROBUST_STEPS, batch_size=ROBUST_IMAGES)
            robust = attack(model, self.images[:ROBUST_IMAGES], self.labels[:ROBUST_IMAGES]).accuracy
        return {"clean": clean, "attack_success": success, "robust": robust}


def path(washed: Washed, measures: Measures) -> list[dict[str, Any]]:
    """Test figures along the path; empty for a method that has none."""
    points = [point for point in washed.curve if "model" in point]
    found = []
    with progress("measuring the path", len(points)) as bar:
        for point in points:
            found.append({"at": point["at"], "held": point["held"]} | measures(point["model"]))
            bar.advance()
    return found


def keep(model: nn.Module, case: Case, folder: Path) -> str:
    """The washed model or program on disk, and how it is named on the command line."""
    if isinstance(model, ReprogrammedModel):
        return f"program={save_pretrained(model, folder / 'program')}"
    assert isinstance(model, Unfrozen)
    frozen = model.frozen()
    return loads_with(frozen, keep_source(frozen, folder / "model"))


def describe(
    context: Run, case: Case, rows: dict[str, Any], curve: list[dict[str, Any]], method: Wash, chosen: Washed,
    loads: str, seconds: float,
) -> None:  # fmt: skip
    """Write what was measured into ``result.json``."""
    data, count = context.result.data, len(case.data.test_labels)
    for name, row in rows.items():
        for key, kind, threat in (("clean", "estimate", "none"), ("attack_success", "inspection", "trigger")):
            if row[key] is not None:
                hits = round(row[key] * count)
                share_row(f"{key}, {name}", kind, threat, [True] * hits + [False] * (count - hits)).add_to(
                    context.result
                )
    source = case.source
    data["source"] = {
        "name": source.name, "fingerprint": source.fingerprint(), "parameters": source.parameter_count(),
    }  # fmt: skip
    data["washed"] = {
        "method": method.name, "settings": asdict(method), "chosen": chosen.chosen, "models": rows, "path": curve,
        "examples": len(case.data.images), "loads_with": loads,
    }  # fmt: skip
    data["cost"] = {"total_seconds": seconds}
    data["verdict"] = verdict(method.name, chosen, rows, loads)


def verdict(name: str, chosen: Washed, rows: dict[str, Any], loads: str) -> str:
    """What washing changed, in one sentence."""
    before, after = rows["as it came"], rows[name]
    at = "" if chosen.chosen is None else f" (chosen at {chosen.chosen:.2f})"
    text = f"{name.replace('_', ' ')}{at}: clean accuracy from {before['clean']:.1%} to {after['clean']:.1%}"
    if after["attack_success"] is None:
        text += "; no trigger is known, so its effect could not be measured"
    else:
        text += f", attack success from {before['attack_success']:.1%} to {after['attack_success']:.1%}"
    return f"{text}; the washed copy loads with {loads}."


def page(context: Run, rows: dict[str, Any], curve: list[dict[str, Any]]) -> Page:
    """The report page of a wash."""
    data = context.result.data
    found = Page(f"{data['source']['name']}, washed", kind="Wash", lead=data["verdict"])
    head = ["", "clean accuracy", "attack success", "robust accuracy (PGD)"]
    body = [[name.replace("_", " "), row["clean"], row["attack_success"], row["robust"]] for name, row in rows.items()]
    note = f"All with the same {data['washed']['examples']:,} clean examples; measured on held-out images."
    found.section("What was washed away", blocks.table(head, body, own=[1]), blocks.note(note))
    if curve:
        lines = {name: [point[key] for point in curve] for key, name in (
            ("clean", "clean accuracy"), ("attack_success", "attack success"), ("robust", "robust accuracy"),
        ) if curve[0][key] is not None}  # fmt: skip
        chart = charts.curves(lines, "t", "share", "accuracy and attack success along the path",
                              "The ends are the models that were given.", steps=[p["at"] for p in curve])  # fmt: skip
        found.section("Along the path", chart)
    found.section("Checks", *robustness(data["robustness"]["rows"]))
    found.section("Reproduce", *reproduce(context, data))
    return found
