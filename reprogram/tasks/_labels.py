"""What a run says of its labels: which look wrong, and what is expected where there is no test set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from reprogram.applicability.base import Applicability
from reprogram.artifact import save_pretrained
from reprogram.errors import BudgetSpent, ConfigError
from reprogram.hooks import Run
from reprogram.interfaces import TargetTask
from reprogram.labels.suspects import Suspects, find_suspects
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.progress import console
from reprogram.report import blocks
from reprogram.report.page import Page
from reprogram.report.report import program as program_blocks
from reprogram.report.reproduce import reproduce
from reprogram.tasks._run import describe, keep_left_out, spent
from reprogram.training.loop import History

SHOWN = 12  # labels to check on the page
LISTED = 100  # of them in result.json


def transductive(target: TargetTask) -> str:
    """The first sentence of a report whose program has seen the test inputs."""
    if target.pool is None or not target.pool.transductive:
        return ""
    return (
        f"Transductive: the program has seen the {len(target.test):,} test inputs without their labels, so the figures hold "
        "for these inputs and not for new ones. "
    )


def left_out_of(model: ReprogrammedModel, chosen: np.ndarray | None) -> np.ndarray | None:
    """[N, T] what a program says of each training example without its own label: as it was chosen by, else as its output
    knows it, NaN where a label is missing; None where nobody knows."""
    if chosen is not None or model.left_out is None:
        return chosen
    logits = model.left_out.float().cpu()
    known = torch.isfinite(logits)
    return torch.where(known, model.probabilities(logits.where(known, 0.0)), torch.nan).numpy()


def labels_to_check(context: Run, target: TargetTask, left_out: np.ndarray | None) -> dict[str, list[Any]]:
    """The section of the report, and ``labels_to_check`` in the result: training labels that the others contradict."""
    if target.info.problem != "classification" or len(target.info.classes) < 2 or not len(target.train):
        return {}
    if left_out is None:
        context.result.data["labels_to_check"] = None
        return {}
    labels = np.asarray(target.train.labels)
    found = find_suspects(left_out, labels)
    doubtful = found.doubtful()
    names = list(target.train_rows) or list(range(len(labels)))
    classes = target.info.classes
    context.result.data["labels_to_check"] = {
        "rows": [
            {
                "row": names[r],
                "label": classes[labels[r]],
                "suspected": classes[found.suspected[r]],
                "wrong": float(found.wrong[r]),
            }
            for r in doubtful[:LISTED]
        ],
        "count": len(doubtful),
        "usually_right": found.usually_right(doubtful),
        "share_of_wrong_labels": found.share,
    }
    return {"Labels to check": section(target, found, doubtful)}


def section(target: TargetTask, found: Suspects, doubtful: np.ndarray) -> list[Markup]:
    """Pictures, strings or drawings with the label given and the label suspected."""
    if not len(doubtful):
        return [blocks.note(f"No label is contradicted by the others, of {len(target.train):,} that were learned from.")]
    one = len(doubtful) == 1
    text = (
        f"{len(doubtful)} of {len(target.train):,} training labels {'is' if one else 'are'} contradicted by the other labels. "
        f"About {found.usually_right(doubtful):.0%} of such a list are usually wrong indeed. They were learned from as given."
    )
    names = list(target.train_rows) or list(range(len(target.train)))
    show, classes = modality(target.info.kind).shown, target.info.classes
    figures = []
    for row in doubtful[:SHOWN]:
        item = target.train.batch([int(row)])[0]
        label, other = classes[int(target.train.labels[row])], classes[int(found.suspected[row])]
        caption = f"{names[row]}: labelled {label}, rather {other} ({found.wrong[row]:.0%})"
        figures.append(
            Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(Markup(show(item, 160)), caption)
        )
    more = f"The {SHOWN} most suspicious are shown; result.json lists more." if len(doubtful) > SHOWN else ""
    return [blocks.note(text), blocks.pictures(figures), blocks.note(more)]


def untested(context: Run, model: ReprogrammedModel, target: TargetTask, history: History, started: float) -> None:
    """The end of a run without a test set: the program is kept, and what was cross-validated is all that is told."""
    describe(context.result, model, target, history)
    try:
        model.applicability = Applicability.of(model, target.train, target.train_rows)
    except BudgetSpent as error:
        target.notes.append(f"The program keeps nothing of its labelled examples: {error}")
    data = context.result.data
    auto = data.get("auto")
    if auto is None or auto["forecast"] is None:
        raise ConfigError(
            "Without a test set the program is chosen by cross-validation: leave input= and output= out, and give two labels "
            "a class or more."
        )
    expected = auto["forecast"]
    keep_left_out(model, target, context.seed)
    data |= {"metrics": {}, "baselines": {}, "robustness": {"rows": []}, "verdict": expectation(target, expected)}
    save_pretrained(model, context.dir / "program", {})
    data["cost"] |= spent(model, started)
    page = Page(f"{target.info.name} on {model.source.name}", kind="Reprogramming run", lead=data["verdict"])
    row = {"expected on new inputs": {key: expected[key] for key in ("value", "low", "high")}}
    caption = f"By cross-validation on {len(target.train):,} labels alone: there is no test set."
    page.section("Result", blocks.intervals(row, label=expected["metric"].replace("_", " "), caption=caption))
    page.section("The program", *program_blocks(model, data))
    for name, parts in context.sections.items():
        page.section(name, *parts)
    page.section("Notes", blocks.listing(target.notes))
    page.section("Reproduce", *reproduce(context, data))
    page.write(context.dir)
    context.result.write(context.dir)
    console.print(f"{data['verdict']}\nresults in {context.dir}", markup=False)


def expectation(target: TargetTask, expected: dict[str, Any]) -> str:
    """The verdict of a run that has nothing to be tested on."""
    return (
        f"No test set: by cross-validation on {len(target.train):,} labels, {expected['metric'].replace('_', ' ')} "
        f"{expected['value']:.3f} ({expected['low']:.3f} to {expected['high']:.3f}) is expected on new inputs."
    )
