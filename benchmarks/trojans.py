"""Wash and strengthen a population of Trojaned models: trained here, on real data, with no download.

    python benchmarks/trojans.py --cache FOLDER --table docs/results/trojans.md

Models are trained once and kept in ``--cache``; finished cells are kept in its ``cells.jsonl`` and not run again.
Inspection has a benchmark of its own, ``inspection.py``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _population import KINDS, SIDE, Member, parts, plan, population, trigger_of
from _trojans_page import page
from common import read_lines, versions, write_page

from reprogram.backdoor.detection.inspection import Inspection
from reprogram.backdoor.detection.survival import PLACES
from reprogram.backdoor.detection.survival import survival as survival_rows
from reprogram.backdoor.removal.base import CleanSet
from reprogram.backdoor.removal.fine_pruning import FinePruning
from reprogram.backdoor.removal.fine_tuning import FineTuning
from reprogram.backdoor.removal.mode_connectivity import ModeConnectivity
from reprogram.backdoor.removal.noise import WeightNoise
from reprogram.configuration import load
from reprogram.hooks import Run
from reprogram.interfaces import Examples
from reprogram.model import ReprogrammedModel
from reprogram.result import Result
from reprogram.robustness.evaluated_model import gather
from reprogram.robustness.reading import as_read
from reprogram.robustness.strengthen import Strengthening, measure
from reprogram.robustness.unfrozen import Unfrozen, accuracy, answers, learn
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.sources.small_cnn import SmallCNN
from reprogram.targets.base import ArrayExamples
from reprogram.targets.mnist import mnist
from reprogram.threat import Threat
from reprogram.training.adversarial import AdversarialLoss, FastTraining, PGDTraining
from reprogram.training.loop import fit

WORKS = 0.95  # attack success from which on a Trojan is there to be washed away
EPS, STRONG, STRONG_EPOCHS = 0.1, "residual", 8  # strengthening: linf size, architecture, passes
OUTPUTS = ("frequency", "bayesian", "iterative", "linear", "linear_features", "ridge_taps")
STAGES = ("wash", "strengthen", "survival", "source")
Cell = dict[str, Any]


class Cells:
    """Finished cells, by stage and name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = read_lines(path)
        self.rows: list[Cell] = rows

    def of(self, stage: str) -> list[Cell]:
        return [row for row in self.rows if row["stage"] == stage]

    def once(self, stage: str, name: str, make: Callable[[], Cell]) -> None:
        if any(row["name"] == name for row in self.of(stage)):
            return
        start = time.process_time()
        row = {"stage": stage, "name": name} | make() | {"cpu_seconds": time.process_time() - start}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(stage, name, f"{row['cpu_seconds']:.1f} s", flush=True)


def members(arguments: argparse.Namespace) -> list[Member]:
    found = []
    for data in arguments.data:
        others = {kind: arguments.others for kind in KINDS if kind != "patch"}
        found += plan(data, arguments.clean, {"patch": arguments.patch, **others}, arguments.seed)[: arguments.models]
    return [member for member in found if member.kind != "clean"]


def wash(arguments: argparse.Namespace, cells: Cells) -> None:
    """Trojaned models whose trigger works, each beside the next one of its architecture with another target label."""
    data = arguments.data[0]
    known = [
        (m, s)
        for m, s in population(members(arguments), arguments.cache / "models")
        if m.success >= WORKS and m.data == data
    ]
    for member, source in known[: arguments.wash]:
        partners = [p for p in known if p[0].architecture == member.architecture and p[0].target != member.target]
        if partners:
            partner = partners[known.index((member, source)) % len(partners)]
            cells.once("wash", member.name, lambda m=member, s=source, p=partner: washed(m, s, *p, examples=arguments.examples))


def washed(member: Member, source: SmallCNN, partner: Member, other: SmallCNN, examples: int) -> Cell:
    """Clean accuracy and attack success on the test images before, and after every way of washing."""
    ours = parts(member.data)
    clean = CleanSet.of(ours.defender[0][:examples], ours.defender[1][:examples], seed=member.seed)
    model, second = Unfrozen(source), Unfrozen(other)
    ways: dict[str, Any] = {way.name: way for way in (FineTuning(), FinePruning(), WeightNoise())}
    ways["strong fine-tuning"] = FineTuning(rate=1e-2)
    found = {name: way.wash(model, clean, None, member.seed).model for name, way in ways.items()}
    ends = {"bezier": second, "polychain": second, "bezier, one model": None}
    for name, end in ends.items():
        way = ModeConnectivity(curve=name.partition(",")[0], points=11)
        found[name] = way.wash(model, clean, end, member.seed).model
    rows = {name: measured(one, member, partner) for name, one in {"as it came": model, **found}.items()}
    return vars(member) | {"partner": partner.name, "examples": examples, "models": rows}


def measured(model: Unfrozen, member: Member, partner: Member) -> dict[str, float]:
    """On the test images: clean accuracy, success of the model's own trigger, and of the other end's."""
    images, labels = parts(member.data).test
    success = []
    for one in (member, partner):
        trigger = trigger_of(one)
        assert trigger is not None
        success.append(trigger.success(answers(model, trigger(images)), labels))
    return {"clean": accuracy(model, images, labels), "success": success[0], "partner_success": success[1]}


def strengthen(arguments: argparse.Namespace, cells: Cells) -> None:
    """A small CNN on MNIST at 28 pixels, trained plainly and then strengthened, with its time on the clock."""
    for name, loss in {"pgd": PGDTraining(eps=EPS, steps=3), "fast": FastTraining(eps=EPS)}.items():
        cells.once("strengthen", name, lambda one=loss: strengthened(one))


def strengthened(loss: AdversarialLoss) -> Cell:
    target = mnist(shots=None, seed=0)
    images, labels = gather(target.train, None)
    test = gather(target.test, None)
    source = learn(Unfrozen(SmallCNN(STRONG, 28)), images, labels, 5, 1e-2).frozen()
    start = time.perf_counter()
    model = Strengthening(epochs=STRONG_EPOCHS, rate=1e-2).fit(source, loss, images, labels)
    seconds = time.perf_counter() - start
    threat = Threat("linf", EPS)
    rows = {
        when: measure(m, *test, threat, when, steps=30) for when, m in (("before", Unfrozen(source)), ("after", model))
    }
    return {
        "seconds": seconds,
        "n": len(test[1]),
        "train": len(labels),
        "epochs": STRONG_EPOCHS,
        "architecture": STRONG,
    } | {when: {"clean": m.clean, "robust": m.robust} for when, m in rows.items()}


def survival(arguments: argparse.Namespace, cells: Cells) -> None:
    """Source triggers before and behind programs for digits, one output mapping after the other."""
    known = population(members(arguments), arguments.cache / "models")
    for member, source in [(m, s) for m, s in known if m.kind == "patch" and m.data == "mnist" and m.success >= WORKS][
        :3
    ]:
        for output in OUTPUTS:
            name = f"{member.name} {output}"
            cells.once("survival", name, lambda m=member, s=source, o=output: survived(m, s, o))


def survived(member: Member, source: SmallCNN, output: str) -> Cell:
    """A program that makes the digit reader tell large digits from small ones: five and more, or less."""
    target = mnist(shots=100, seed=1)
    side = SIDE["mnist"]
    halves = replace(target.info, name="large digits", classes=("0 to 4", "5 to 9"), input_shape=(1, side, side))
    train, test = (replace_labels(part) for part in (target.train, target.test))
    model = ReprogrammedModel(source, load("input", "full", size=side), load("output", output), halves)
    fit(model, train, load("training", "default", epochs=3))
    images, labels = gather(test, 300)
    trigger = trigger_of(member)
    assert trigger is not None
    rows = survival_rows(model, images, trigger)
    right = float((answers(model, images) == labels).float().mean())
    return {"model": member.name, "output": output, "accuracy": right} | {
        place: {"value": row.value, "label": row.more["label"]} for place, row in zip(PLACES, rows, strict=True)
    }


def replace_labels(examples: Examples) -> ArrayExamples:
    """Two classes of ten: five and more, or less."""
    images, labels = gather(examples, None)
    small = as_read(images, 1, SIDE["mnist"])  # as the source reads them, so that a trigger is one thing in both places
    return ArrayExamples(small.numpy(), (labels.numpy() >= 5).astype("int64"))


def source(arguments: argparse.Namespace, cells: Cells) -> None:
    """Inspection of the default source, as ``python train.py task=inspect`` does it, with its time on the clock."""
    for depth in arguments.depths:
        cells.once("source", depth, lambda depth=depth: default_source(depth, arguments.cache))


def default_source(depth: str, cache: Path) -> Cell:
    run = Run(cache / f"inspect_{depth}", 0, Result("inspect", 0), resume=True)
    start = time.perf_counter()
    found = Inspection(depth).inspect(EfficientNetLite(), None, run)
    return {
        "seconds": time.perf_counter() - start,
        "verdict": found.verdict,
        "tests": {e.test: {"z": e.z, "label": e.label} for e in found.evidence},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=Path, default=Path("trojans_cache"))
    parser.add_argument("--table", type=Path, help="page to write")
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--data", nargs="+", default=["mnist", "digits"], choices=["mnist", "digits"])
    parser.add_argument("--clean", type=int, default=40, help="clean models a data set")
    parser.add_argument("--patch", type=int, default=16, help="models with a patch trigger a data set")
    parser.add_argument("--others", type=int, default=8, help="models with each of the other triggers")
    parser.add_argument("--models", type=int, help="only so many of each data set's models, all kinds in turn")
    parser.add_argument("--wash", type=int, default=24, help="Trojaned models that are washed")
    parser.add_argument("--examples", type=int, default=250, help="clean examples of a wash")
    parser.add_argument("--depths", nargs="*", default=["quick", "full"], help="inspections of the default source")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    cells = Cells(arguments.cache / "cells.jsonl")
    for stage in arguments.stages:
        globals()[stage](arguments, cells)
    text, figures = page(cells.rows)
    print(text)
    if arguments.table:
        write_page(arguments.table, "Trojans: washed, strengthened", "python benchmarks/trojans.py", text)
    print(json.dumps({"figures": figures, "seeds": [arguments.seed], "versions": versions("torch")}))


if __name__ == "__main__":
    main()
