"""Does a known Trojan survive reprogramming? Its trigger is placed before the program, and behind it on what the source reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reprogram.backdoor.triggers.base import Trigger
from reprogram.frozen import still
from reprogram.hooks import Hook, Run
from reprogram.interfaces import TargetTask
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.robustness.evaluated_model import gather
from reprogram.robustness.findings import Flag, Row, share_row

PLACES = ("before the program", "behind the program")


class Survival(Hook):
    """Adds one row a place: the share of test examples that the trigger moves to one target label.

    trigger: the known one. count: test examples that are looked at, drawn by the run's seed.
    """

    def __init__(self, trigger: Trigger, count: int = 200) -> None:
        self.trigger, self.count = trigger, count

    def on_fit_end(self, run: Run, model: ReprogrammedModel, target: TargetTask) -> None:
        if not modality(target.info.kind).pixels or target.info.problem != "classification":
            notes = run.result.data.setdefault("robustness", {}).setdefault("notes", [])
            notes.append(f"no trigger was placed: the target is {target.info.kind} {target.info.problem}")
            return
        images, _ = gather(target.test, self.count, model.device, run.seed)
        for row in survival(model, images, self.trigger):
            row.add_to(run.result)


@torch.no_grad()
def survival(model: ReprogrammedModel, images: Tensor, trigger: Trigger) -> list[Row]:
    """Rows for target images [N, C, H, W]: of those answered otherwise, how many now get the label that gained most."""
    with still(model):
        clean = torch.cat([model(part).argmax(1) for part in images.split(64)])
        answers = {
            PLACES[0]: torch.cat([model(trigger(part)).argmax(1) for part in images.split(64)]),
            PLACES[1]: torch.cat([_behind(model, part, trigger).argmax(1) for part in images.split(64)]),
        }
    return [_row(place, clean, found, model, trigger) for place, found in answers.items()]


def _behind(model: ReprogrammedModel, images: Tensor, trigger: Trigger) -> Tensor:
    """Target logits where every view carries the trigger as the source reads it."""
    return model.output([model.ask(trigger(view)) for view in model.input(images)])


def _row(place: str, clean: Tensor, found: Tensor, model: ReprogrammedModel, trigger: Trigger) -> Row:
    count = len(model.target.classes)
    gained = found.bincount(minlength=count) - clean.bincount(minlength=count)
    label = int(gained.argmax())
    moved = (found == label)[clean != label]
    more: dict[str, Any] = {
        "label": model.target.classes[label],
        "changed": float((found != clean).float().mean()),
        "output": model.output.name,
    }
    threat = f"{trigger.name} trigger {place}, {model.output.name}"
    if not len(moved):
        constant = Flag("constant", "every answer is one label")
        return Row("trojan_survival", "inspection", threat, None, n=0, flags=[constant], more=more)
    return share_row("trojan_survival", "inspection", threat, moved.cpu(), **more)
