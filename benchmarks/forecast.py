"""Does the forecast of ``program=auto`` hold, on sets that had no part in shaping it?

    python benchmarks/forecast.py --cache forecast.jsonl --out docs/results/forecast.md

Finished cells are kept in ``--cache`` (one JSON line each), so that a stopped run goes on where it was; ``--only-table``
writes the page from them. The sets lie inside installed packages (benchmarks/_package_sets.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _package_sets import load, names
from common import read_lines, versions, write_page

from reprogram.evaluation.features import CachedSource
from reprogram.evaluation.point_metrics import main_metric
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel
from reprogram.result import Result
from reprogram.selection.choose import Auto, choose
from reprogram.sources import load_source

SHAPED = ("topics", "parts scipy", "lengths scipy")  # were looked at while the corrections were made
FIRST_SEED = 700


def cell(source: SourceModel, name: str, few: int, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Choose among ``few`` labels, then ask the chosen program about the test examples."""
    task = load(name, few, seed, arguments.test)
    metric = main_metric(task.info)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), seed, Result("auto", seed))
        found = choose([source], task, Auto(minutes=arguments.minutes), run)
    test = metric(task.test.labels, found.model.predict_proba(task.test))
    return {
        "set": name,
        "labels": few,
        "seed": seed,
        "classes": len(task.info.classes) if task.info.problem == "classification" else 0,
        "metric": metric.__name__,
        "chosen": found.candidate.name,
        "test": test,
        "test_size": len(task.test),
        **{key: getattr(found.estimate, key) for key in ("value", "low", "high", "naive", "level")},
        "seconds": time.perf_counter() - started,
    }


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage, and mean forecast minus test value; for errors of values their ratio."""
    shares = [c for c in cells if c["metric"] != "rmse"]
    values = [c for c in cells if c["metric"] == "rmse"]
    held = [c["low"] <= c["test"] <= c["high"] for c in cells]
    gaps = {key: float(np.mean([c[key] - c["test"] for c in shares])) for key in ("value", "naive") if shares}
    ratios = {
        key: float(np.exp(np.mean([np.log(c[key] / c["test"]) for c in values])))
        for key in ("value", "naive")
        if values
    }
    return {
        "cells": len(cells),
        "held": int(np.sum(held)),
        "coverage": float(np.mean(held)) if held else None,
        "gap": gaps,
        "absolute_gap": float(np.mean([abs(c["value"] - c["test"]) for c in shares])) if shares else None,
        "ratio": ratios,
        "width": float(np.mean([c["high"] - c["low"] for c in shares])) if shares else None,
    }


def page(cells: list[dict[str, Any]], planned: int) -> str:
    fresh = [c for c in cells if c["set"] not in SHAPED]
    found = summary(fresh)
    level = fresh[0]["level"] if fresh else 0.95
    lines = [
        "The forecast is made from the training labels alone; then the program is asked about the test examples, once. The",
        "sets are docstrings (which part of a package is described, or how long the description is), molecules and peptides",
        f"inside installed packages, with MiniLM as the source and seeds from {FIRST_SEED} on. None of them had a part in",
        f"choosing the candidates, the rule or the corrections. {len(fresh)} of {planned} planned cells are finished.",
        "",
        f"- The {level:.0%} interval held the test value in {found['held']} of {found['cells']} cells ({found['coverage']:.0%}).",
    ]
    if found["gap"]:
        lines.append(
            f"- Accuracy and ROC-AUC: forecast minus test value {100 * found['gap']['value']:+.1f} points on average "
            f"(uncorrected {100 * found['gap']['naive']:+.1f}), {100 * found['absolute_gap']:.1f} without the sign; the interval "
            f"is {100 * found['width']:.0f} points wide on average."
        )
    if found["ratio"]:
        ratio = found["ratio"]
        lines.append(
            f"- RMSE: forecast over test value {ratio['value']:.2f} on average (uncorrected {ratio['naive']:.2f})."
        )
    lines += [
        "",
        "| set | classes | labels | seed | metric | chosen | test value | forecast | interval | holds | uncorrected |",
        "|" + "---|" * 11,
    ]
    for c in fresh:
        holds = "yes" if c["low"] <= c["test"] <= c["high"] else "**no**"
        lines.append(
            f"| {c['set']} | {c['classes'] or ''} | {c['labels']} | {c['seed']} | {c['metric']} | {c['chosen']} "
            f"| {c['test']:.3f} | {c['value']:.3f} | {c['low']:.3f} to {c['high']:.3f} | {holds} | {c['naive']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=[name for name in names() if name not in SHAPED])
    parser.add_argument("--labels", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--source", default="minilm")
    parser.add_argument("--memory", type=float, default=1500.0, help="MB for what the source answered")
    parser.add_argument("--cache", type=Path, default=Path("forecast.jsonl"))
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    done = read_lines(arguments.cache)
    source = None if arguments.only_table else CachedSource(load_source(arguments.source), arguments.memory)
    plan = [
        (s, n, f)
        for s in range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        for n in arguments.sets
        for f in arguments.labels
    ]
    for seed, name, few in plan if source is not None else ():
        if any((c["set"], c["labels"], c["seed"]) == (name, few, seed) for c in done):
            continue
        done.append(cell(source, name, few, seed, arguments))
        with arguments.cache.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        c = done[-1]
        print(
            f"{name} {few} seed {seed}: test {c['test']:.3f}, forecast {c['value']:.3f} ({c['low']:.3f} to {c['high']:.3f})",
            flush=True,
        )
    done.sort(key=lambda c: (c["set"], c["labels"], c["seed"]))
    text = page(done, len([s for s in names() if s not in SHAPED]) * len(arguments.labels) * arguments.seeds)
    print(text)
    if arguments.out:
        command = (
            f"python benchmarks/forecast.py --labels {' '.join(map(str, arguments.labels))} --seeds {arguments.seeds}"
        )
        write_page(arguments.out, "The forecast of `program=auto`", f"{command} --test {arguments.test}", text)
    fresh = [c for c in done if c["set"] not in SHAPED]
    seeds = sorted({c["seed"] for c in fresh})
    print(json.dumps(summary(fresh) | {"seeds": seeds, "versions": versions("torch", "transformers", "scikit-learn")}))


if __name__ == "__main__":
    main()
