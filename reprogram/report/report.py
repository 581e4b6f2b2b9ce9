"""``report.html`` of a reprogramming run: what to use, how good it is, what the program does, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from reprogram.evaluation import metrics
from reprogram.evaluation.compare import Comparison
from reprogram.evaluation.verdict import called, short
from reprogram.hooks import Run
from reprogram.interfaces import TargetTask
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.report import blocks, charts, pictures
from reprogram.report.page import Page
from reprogram.report.reproduce import reproduce
from reprogram.report.robustness import robustness

LARGEST_MATRIX = 20  # classes; beyond, only the most frequent confusions are shown
SHOWN_LABELS = 3  # source labels a target label
PROGRAM = "the program"


def build(run: Run, model: ReprogrammedModel, target: TargetTask, found: Comparison) -> Page:
    """The page of a finished run; everything measured is read from ``run.result``."""
    data = run.result.data
    title = f"{target.info.name} on {model.source.name}"
    page = Page(title, kind="Reprogramming run", lead=found.verdict)
    page.section("Result", *result(found, target))
    page.section("The program", *program(model, data))
    page.section("What the source labels stand for", *mapping(data.get("mapping")))
    page.section("Examples", *examples(model, target, found.scores))
    page.section("Where it errs", *errors(target, found.scores))
    page.section("Learning curve", *learning(data.get("history") or []), *judged(data.get("search") or {}))
    checks = data.get("robustness") or {}
    page.section("Robustness", *robustness(checks.get("rows") or [], checks.get("notes") or []))
    for name, image in (run.pictures | target.pictures(model)).items():
        page.section(name.replace("_", " ").capitalize(), blocks.picture(image, name.replace("_", " ")))
    for name, parts in run.sections.items():
        page.section(name, *parts)
    page.section("Costs", *costs(data, found))
    page.section("Notes", blocks.listing(notes(target, found)))
    page.section("Reproduce", *reproduce(run, data))
    return page


def result(found: Comparison, target: TargetTask) -> list[Markup]:
    """The leading metric as a chart, all metrics as a table."""
    rows = {PROGRAM: found.metrics[found.metric]}
    rows |= {short(name): row[found.metric] for name, row in _by_value(found)}
    size = f"{len(target.test):,} test examples, {len(target.train):,} training labels; bars are 95 % intervals."
    chart = blocks.intervals(rows, own=[PROGRAM], label=metrics.TITLES[found.metric], caption=size)
    meant = blocks.details(
        "what the baselines are", blocks.listing([f"{short(name)}: {called(name)}" for name, _ in _by_value(found)])
    )
    names = list(found.metrics)
    everything: dict[str, Mapping[str, Any]] = {PROGRAM: found.metrics} | {short(n): r for n, r in _by_value(found)}
    body = [[name, *(row[m]["value"] for m in names)] for name, row in everything.items()]
    return [
        chart,
        meant,
        blocks.heading("All metrics"),
        blocks.table(["", *(metrics.TITLES[m] for m in names)], body, own=[0]),
    ]


def _by_value(found: Comparison) -> list[tuple[str, dict[str, Any]]]:
    """Baselines best first; one that is the program itself is left out."""
    others = [(name, row) for name, row in found.baselines.items() if not found.differences[name].same]
    sign = 1 if found.metric in metrics.LOWER_IS_BETTER else -1
    return sorted(others, key=lambda item: sign * (item[1][found.metric]["value"] or 0.0))


def program(model: ReprogrammedModel, data: Mapping[str, Any]) -> list[Markup]:
    """Its parts and size, its picture, and what its methods say that they have learned."""
    size = data.get("program", {})
    parts = [
        blocks.facts(
            {
                "input transformation": model.input.name,
                "output mapping": model.output.name,
                "numbers kept": size.get("parameters"),
                "of which trained by steps": size.get("trained"),
                "size": None if "bytes" not in size else f"{size['bytes'] / 1024:,.1f} KB",
                "frozen source": _frozen(data["source"]),
            }
        )
    ]
    shown = [
        blocks.picture(
            pictures.png(image, 224),
            "the learned prompt around and over a plain grey image",
            "what the source reads for a plain grey image" + (f", contrast ×{factor:.1f}" if factor > 1.05 else ""),
        )
        for image, factor in pictures.prompt(model)
    ]
    parts.append(blocks.pictures(shown))
    if not shown:
        parts.append(
            blocks.note("The program has no prompt: the source reads the plain input, only its answer is mapped.")
        )
    for told in (*model.input.explain(), *model.output.explain()):
        parts += [blocks.heading(told.title), blocks.table(told.headers, told.rows), blocks.note(told.note)]
    return parts


def mapping(found: Mapping[str, Any] | None) -> list[Markup]:
    """Target label -> source labels with weights."""
    if not found:
        return []
    shown = {
        name: [(_short(label), w) for label, w in labels[:SHOWN_LABELS]] for name, labels in found["classes"].items()
    }
    largest = max((w for labels in shown.values() for _, w in labels), default=1.0)
    body = [[name, blocks.shares(labels, largest) or "–"] for name, labels in shown.items()]
    if found["kind"] == "weights":
        explained = "The source labels with the largest weights in each target label; all weights of a label sum to 1."
    else:
        explained = (
            "The program reads features, not labels. Shown is what the source sees in each class of the training "
            "examples: by how many standard deviations a source label's logit is above its mean."
        )
    return [blocks.note(explained), blocks.table(["target label", "source labels and weights"], body)]


def _short(label: str) -> str:
    """ImageNet's labels are lists of synonyms; the first one is enough here."""
    return label.split(", ")[0]


def examples(model: ReprogrammedModel, target: TargetTask, scores: np.ndarray) -> list[Markup]:
    """Some test examples with what was answered: images before and after the program, strings as a table."""
    labels, pixels = np.asarray(target.test.labels), modality(target.info.kind).pixels
    if target.info.problem != "classification":
        return [] if pixels else _strings(target, np.arange(min(8, len(labels))), scores)
    rows = pictures.chosen_examples(labels, scores.argmax(1), scores.max(1))
    if not pixels:
        return _strings(target, rows, scores)
    before, after = pictures.views(model, target.test, rows)
    shown = []
    for place, row in enumerate(rows):
        answer, known = (target.info.classes[int(i)] for i in (scores[row].argmax(), labels[row]))
        verb = "right" if answer == known else f"wrong: it is {known}"
        caption = f"{answer}, {100 * scores[row].max():.0f} % ({verb})"
        image = pictures.beside(before[place], after[0][place])
        shown.append(blocks.picture(image, f"test image of {known} before and after the program", caption))
    told = "Left: the test image. Right: what the source reads" + (
        f" (the first of {len(after)} views)." if len(after) > 1 else "."
    )
    return [blocks.note(told), blocks.pictures(shown)]


def _strings(target: TargetTask, rows: np.ndarray, scores: np.ndarray) -> list[Markup]:
    from reprogram.report.predictions import named

    answers = metrics.predictions(scores, target.info.problem)
    body = [
        [
            _one(item, target),
            named(target.test.labels[row], target.info),
            named(answers[row], target.info),
        ]
        for row, item in zip(rows, target.test.batch(rows), strict=True)
    ]
    return [blocks.table(["test example", "label", "prediction"], body)]


def _one(item: Any, target: TargetTask) -> Markup:
    """A string cut to a line; any other input as its modality shows it."""
    if not isinstance(item, str):
        return Markup(modality(target.info.kind).shown(item, 160))
    return Markup('<span class="long">{}</span>').format(item if len(item) <= 120 else f"{item[:120]} …")


def errors(target: TargetTask, scores: np.ndarray) -> list[Markup]:
    """Confusion matrix, one row a task, or predicted against measured values."""
    labels, classes = np.asarray(target.test.labels), target.info.classes
    if target.info.problem == "regression":
        known = labels.reshape(len(labels)).astype(float)
        keep = ~np.isnan(known)
        return [charts.scatter(known[keep], scores.reshape(len(scores))[keep], "predicted against measured values")]
    if target.info.problem == "multilabel":
        rows = []
        for t, name in enumerate(classes):
            known = ~np.isnan(labels[:, t])
            one = (
                metrics.evaluate(scores[known, t : t + 1], labels[known, t : t + 1], "multilabel")
                if known.any()
                else {}
            )
            positive = int(np.nansum(labels[:, t]))
            rows.append(
                [name, int(known.sum()), positive, blocks.interval(one.get("roc_auc")), blocks.bar(one.get("roc_auc"))]
            )
        return [blocks.table(["task", "labelled", "positive", "ROC-AUC", blocks.axis()], rows)]
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, (labels, scores.argmax(1)), 1)
    if len(classes) <= LARGEST_MATRIX:
        return [blocks.matrix(counts.tolist(), classes, "Rows: true class. Columns: predicted class.")]
    np.fill_diagonal(counts, 0)
    worst = np.argsort(-counts, axis=None)[:15]
    pairs = [(*np.unravel_index(i, counts.shape), int(counts.flat[i])) for i in worst if counts.flat[i]]
    return [blocks.table(["it is", "answered", "times"], [[classes[a], classes[b], n] for a, b, n in pairs])]


def learning(history: list[Mapping[str, float]]) -> list[Markup]:
    """Loss (and accuracy) on the training examples after each epoch, over queries where each of them costs."""
    if not history:
        return []
    over = "queries" if all("queries" in row for row in history) else "epoch"
    steps = [row[over] for row in history]
    shown = [charts.curves({"loss": [r["loss"] for r in history]}, over, "training loss", "training loss", steps=steps)]
    if all("accuracy" in row for row in history):
        shares = {"accuracy": [row["accuracy"] for row in history]}
        shown.append(charts.curves(shares, over, "training accuracy", "training accuracy", steps=steps))
    return shown


def _frozen(source: Mapping[str, Any]) -> str:
    """Name and size; a black-box (query-only) model shows no parameters."""
    count = source["parameters"]
    return source["name"] + (f", {count / 1e6:.1f} M parameters" if count else ", its parameters hidden")


def judged(search: Mapping[str, Any]) -> list[Markup]:
    """What the labels that a search did not use said of its programs, over the queries paid for; the start comes first."""
    points = search.get("points") or []
    if not all("queries" in point and "held_out_accuracy" in point for point in points) or len(points) < 2:
        return []
    shares = {"accuracy": [point["held_out_accuracy"] for point in points]}
    caption = f"{search['held_out']} labels kept out of the search; the first point is its start."
    steps = [point["queries"] for point in points]
    return [charts.curves(shares, "queries", "held-out accuracy", "held-out accuracy over queries", caption, steps)]


def costs(data: Mapping[str, Any], found: Comparison) -> list[Markup]:
    """What training and evaluation cost, as facts and charts."""
    cost = data.get("cost", {})
    spent = blocks.facts(
        {
            "training": _seconds(cost.get("train_seconds")),
            "examples a second": cost.get("examples_per_second"),
            "whole run": _seconds(cost.get("total_seconds")),
            "processor time": _seconds(cost.get("cpu_seconds")),
            "peak memory": None if cost.get("peak_memory_mb") is None else f"{cost['peak_memory_mb']:,.0f} MB",
            "paid queries": cost.get("queries") or None,
            "of which for evaluation": cost.get("by_kind", {}).get("evaluation"),
            "of which the service may not have billed": cost.get("sent_but_unanswered") or None,
            "price": cost.get("price") or None,
            "answered by the cache": f"{cost['saved_share']:.0%}" if cost.get("saved_share") else None,
            "training ended": cost.get("ended"),
        }
    )
    rows = [[PROGRAM + " on the test set" if n == "program" else short(n), s] for n, s in found.seconds.items()]
    return [spent, blocks.details("seconds a baseline", blocks.table(["", "seconds"], rows))]


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f} s"


def notes(target: TargetTask, found: Comparison) -> list[str]:
    """What was skipped or repaired, and how the test set came about."""
    split = ", ".join(f"{key} {value}" for key, value in target.split.items())
    skipped = [f"No {name} baseline: {reason}." for name, reason in found.skipped.items()]
    return [*([f"Split: {split}."] if split else []), *target.notes, *skipped]
