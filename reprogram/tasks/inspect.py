"""Inspect a source before it is trusted: its files, then tests for a Trojan, and a page with recovered triggers."""

from __future__ import annotations

import time
from typing import Any

from hydra.utils import instantiate
from markupsafe import Markup
from omegaconf import DictConfig

from reprogram.backdoor.detection.examine import NC
from reprogram.backdoor.detection.inspection import Inspected, Inspection
from reprogram.backdoor.detection.integrity import CheckedFile
from reprogram.backdoor.detection.verdict import THRESHOLD
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, TargetTask
from reprogram.progress import console
from reprogram.ranges import NotEmpty
from reprogram.report import blocks
from reprogram.report.page import Page
from reprogram.report.pictures import png
from reprogram.report.reproduce import reproduce
from reprogram.report.robustness import robustness
from reprogram.tasks._run import start, whole_target
from reprogram.tasks._source_data import another, checked_source
from reprogram.training.loop import peak_memory_mb

SHOWN = 10  # recovered triggers on the page


OPTIONS: dict[str, Any] = {"task.references": list[NotEmpty]}


def run(config: DictConfig) -> None:
    """One run, top to bottom."""
    started = time.perf_counter()
    context = start(config)
    source, files = checked_source(config)
    source = source.to(context.device)
    target = whole_target(config)
    inspection = instantiate(config.inspection) if "_target_" in config.inspection else Inspection()
    for path in config.task.references:
        second, more = another(config, str(path), "task.references")
        inspection.references.append(second.to(context.device))
        files += more
    found = inspection.inspect(source, target, context)
    describe(context, source, found, files, time.perf_counter() - started)
    page(context, source, target, found, files).write(context.dir)
    context.result.write(context.dir)
    console.print(f"{found.verdict}\nresults in {context.dir}", markup=False)


def describe(context: Run, source: SourceModel, found: Inspected, files: list[CheckedFile], seconds: float) -> None:
    """Write what was found into ``result.json``."""
    data = context.result.data
    for row in found.rows:
        row.add_to(context.result)
    data["source"] = {
        "name": source.name, "fingerprint": source.fingerprint(), "parameters": source.parameter_count(),
    }  # fmt: skip
    data["files"] = [{"path": str(f.path), "kind": f.kind, "sha256": f.sha256} for f in files]
    data["inspection"] = {
        "evidence": [vars(e) | {"label_name": source.labels[e.label]} for e in found.evidence],
        "labels": [] if found.figures is None else found.figures.labels,
        "values": {} if found.figures is None else found.figures.values,
        "left_out": found.left_out,
    }
    data["cost"] = source.bill() | {"total_seconds": seconds, "peak_memory_mb": peak_memory_mb()}
    data["verdict"] = found.verdict


def page(context: Run, source: SourceModel, target: TargetTask, found: Inspected, files: list[CheckedFile]) -> Page:
    """The report page of an inspection."""
    data = context.result.data
    result = Page(f"Inspection of {source.name}", kind="Inspection", lead=found.verdict)
    result.section("Evidence", *evidence(source, found))
    result.section("Recovered triggers", *triggers(source, found))
    result.section("Label by label", *by_label(source, found))
    result.section("All rows", *robustness(data["robustness"]["rows"]))
    body = [[str(f.path), f.kind, f.sha256] for f in files]
    whole = "No file was named: the weights come with an installed package, or from Python."
    result.section("Files", blocks.table(["file", "kind", "SHA-256"], body) or blocks.note(whole))
    result.section(
        "Costs", blocks.facts({"seconds": data["cost"]["total_seconds"], "questions": data["cost"]["queries"]})
    )
    result.section("Reproduce", *reproduce(context, data))
    return result


def evidence(source: SourceModel, found: Inspected) -> list[Markup]:
    """One row a test, and what it was compared with."""
    head = ["test", "most suspicious label", "above the other labels (MAD)", "above clean models (z)", "the same (MAD)"]
    body = [[e.test, source.labels[e.label], e.score, e.z, e.mad] for e in found.evidence]
    about = sorted({e.about for e in found.evidence if e.about})
    text = f"A test counts from z = {THRESHOLD:g} on. Compared with: {'; '.join(about)}." if about else ""
    never = "No test can show that a model is clean: a Trojan of another kind may be there."
    return [blocks.table(head, body), blocks.note(text), blocks.listing(found.left_out), blocks.note(never)]


def triggers(source: SourceModel, found: Inspected) -> list[Markup]:
    """What Neural Cleanse recovered, smallest first."""
    if found.figures is None or not found.figures.triggers:
        return []
    values = found.figures.values[NC]
    order = (-values).argsort()[:SHOWN]
    shown: list[Any] = []
    for i in order:
        label = int(found.figures.labels[i])
        share = f"{source.labels[label]}: mask of {100 * 2.718281828 ** -values[i]:.1f} %"
        shown.append(blocks.picture(png(found.figures.triggers[label]), f"trigger recovered for {share}", share))
    return [
        blocks.pictures(shown),
        blocks.note("Grey: unchanged pixels. Every label has a mask; that of a Trojan is much smaller."),
    ]


def by_label(source: SourceModel, found: Inspected) -> list[Markup]:
    """The figures of every label that was tested."""
    if found.figures is None:
        return []
    figures = found.figures
    body = [
        [source.labels[int(label)], *(float(values[i]) for values in figures.values.values())]
        for i, label in enumerate(figures.labels)
    ]
    return [blocks.details("figures of every label that was tested", blocks.table(["label", *figures.values], body))]
