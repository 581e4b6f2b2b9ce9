"""What to label next: typical and different inputs first, doubtful ones once there are labels; a sheet to label them in."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from markupsafe import Markup
from omegaconf import DictConfig, OmegaConf

from reprogram.errors import DataError
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, TargetInfo
from reprogram.labels.forecast import Span
from reprogram.progress import console
from reprogram.ranges import Count, NotEmpty, Side
from reprogram.report import blocks
from reprogram.report.contact_sheet import Card, LabelFiles, sheet
from reprogram.report.page import Page
from reprogram.report.reproduce import reproduce
from reprogram.result import write_atomically
from reprogram.selection.label_round import RoundRead, choose_round, read, told
from reprogram.targets.label_list import Labelled, labels_of, read_list
from reprogram.targets.pool import Pool, gather, key
from reprogram.targets.tables import Table
from reprogram.targets.unlabelled import open_inputs
from reprogram.tasks._run import start
from reprogram.training.loop import peak_memory_mb

OPTIONS: dict[str, Any] = {"task.thumbnail": Side, "budget": Count, "labels": NotEmpty | None}
NOT_NEEDED = ("target.label_column",)  # options that this task does without
FILE, SHEET = "to_label.csv", "to_label.html"


def run(config: DictConfig) -> None:
    """One round, top to bottom."""
    started = time.perf_counter()
    context = start(config)
    source: SourceModel = instantiate(config.source).to(context.device)
    target: Any = OmegaConf.to_container(config.target, resolve=True)
    inputs = open_inputs({k: v for k, v in target.items() if k != "label_column"})
    table = read_list(config.labels) if config.labels else None
    find = _finder(inputs)
    wanted = [find(text) for text in table.columns["input"]] if table else []
    pool = gather(inputs, wanted, target.get("size"))
    labelled = _labelled(table, pool, find)
    shape = tuple(pool.shape) if pool.shape else None
    info = TargetInfo(_name(target), pool.kind, "classification", ("one", "other"), shape)
    found = read(source, pool, info, config.auto.photographs)
    chosen = choose_round(found, labelled, config.budget, context.seed)
    files = LabelFiles(pool, labelled, chosen)
    if not files.rows:
        raise DataError("There is nothing left to label: every input has a label, or is nearly one that has.")
    write_atomically(context.dir / FILE, files.text())
    cards = files.cards(config.task.thumbnail)
    write_atomically(context.dir / SHEET, sheet(info.name, cards, labelled.classes, files))
    describe(context, source, info, found, files, time.perf_counter() - started)
    page(context, files, cards).write(context.dir)
    context.result.write(context.dir)
    console.print(f"{context.result.data['verdict']}\nresults in {context.dir}", markup=False)


def _finder(inputs: Any) -> Callable[[str], str]:
    """How an ``input`` of a list is recognised in the pool: a path below the folder, or a string in its one spelling."""
    reader = getattr(inputs, "reader", None)
    return (lambda text: text) if reader is None else (lambda text: str(reader.read(text).text))


def _labelled(table: Table | None, pool: Pool, find: Callable[[str], str]) -> Labelled:
    if table is None:
        return Labelled(np.zeros(0, int), np.zeros(0, int), (), "classification", np.zeros(0, int), [])
    places = {key(pool, place): place for place in reversed(range(len(pool)))}
    return labels_of(table, lambda text: places.get(find(text)))


def _name(target: dict[str, Any]) -> str:
    return str(target.get("name") or Path(str(target.get("root") or target["path"])).expanduser().resolve().stem)


def describe(
    context: Run, source: SourceModel, info: TargetInfo, found: RoundRead, files: LabelFiles, seconds: float
) -> None:
    """What was chosen and why, what is expected, and the cost, as ``result.json`` has them."""
    pool, labelled, chosen = files.pool, files.labelled, files.chosen
    context.result.data |= {
        "source": {"name": source.name, "fingerprint": source.fingerprint(), "parameters": source.parameter_count()},
        "target": {"name": info.name, "kind": info.kind, "classes": list(labelled.classes), "problem": labelled.problem},
        "pool": {
            "inputs": pool.total,
            "read": len(found.places),
            "outliers": [key(pool, int(place)) for place in chosen.outliers],
        },
        "labels": {"so_far": len(labelled.places), "unclear": len(labelled.unclear)},
        "to_label": [pool.written[int(place)] for place in chosen.chosen],
        "to_check": [
            {"input": pool.written[place], "suspected": name, "wrong": wrong} for place, name, wrong in chosen.check
        ],
        "usually_right": chosen.usually_right,
        "forecast": told(chosen.forecast),
        "notes": files.notes(),
        "cost": source.bill() | {"total_seconds": seconds, "peak_memory_mb": peak_memory_mb()},
        "verdict": verdict(files),
    }


def verdict(files: LabelFiles) -> str:
    """What to do next, and what to expect of it."""
    chosen, labels = files.chosen, len(files.labelled.places)
    told = [f"Label these {len(chosen.chosen)} of {files.pool.total:,} inputs next"]
    if chosen.check:
        one = len(chosen.check) == 1
        told.append(f"{'1 label' if one else f'{len(chosen.check)} labels'} should be looked at again first")
    text = "; ".join(told) + "."
    if chosen.forecast is None:
        return text
    now, twice = chosen.forecast.now, chosen.forecast.twice
    text += f" Expected accuracy with the {labels} labels so far: {_span(now)}; with {2 * labels}: {_span(twice)}."
    worth = "more labels are worth it" if chosen.forecast.worth else "twice as many labels would add less than a point"
    return f"{text} By this forecast {worth}."


def _span(span: Span) -> str:
    return f"{span.value:.2f} ({span.low:.2f} to {span.high:.2f})"


def page(context: Run, files: LabelFiles, cards: list[Card]) -> Page:
    """``report.html``: what to label, in pictures; the labelling itself is done on the contact sheet."""
    data, chosen = context.result.data, files.chosen
    found = Page(f"What to label next of {data['target']['name']}", kind="Labelling round", lead=data["verdict"])
    how = (
        "Open to_label.html in a browser, label with the keyboard or by touch, and download the list; or fill in the column "
        "label of to_label.csv. Give the list as labels= for the next round, or as target.labels_file= to train."
    )
    found.section("How to go on", how)
    if chosen.forecast is not None:
        rows = {"with the labels so far": vars(chosen.forecast.now), "with twice as many": vars(chosen.forecast.twice)}
        caption = "Expected accuracy on new inputs, with 95 % intervals: a forecast, for there is no labelled test set."
        found.section("Forecast", blocks.intervals(rows, label="accuracy", caption=caption))
    suspected = cards[: len(chosen.check)]
    if suspected:
        right = f"Of such a list about {chosen.usually_right:.0%} are usually wrong indeed."
        found.section("Labels to check", blocks.note(right), shown(suspected))
    found.section("To label", shown(cards[len(suspected) :]))
    apart = [files.pool.written[int(place)] for place in chosen.outliers]
    if apart:
        text = f"{len(apart)} inputs are unlike all others and were set apart; they are never chosen: look at them once."
        found.section("Set apart", blocks.note(text), blocks.listing(apart[:20]))
    found.section("Notes", blocks.listing(data["notes"]))
    seconds, queries = data["cost"]["total_seconds"], data["cost"]["queries"]
    found.section("Costs", blocks.facts({"seconds": seconds, "paid queries": queries or None}))
    found.section("Reproduce", *reproduce(context, data))
    return found


def shown(cards: list[Card]) -> Markup:
    """Inputs as figures with their captions."""
    figures = [
        Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(Markup(card.html), card.caption())
        for card in cards
    ]
    return blocks.pictures(figures)
