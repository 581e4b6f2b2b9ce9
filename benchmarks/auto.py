"""What ``program=auto`` chooses, against the plain baselines, the best program by test labels, and its own forecast.

    python benchmarks/auto.py --targets digits mnist --shots 16 64 --seeds 5 --cache auto.jsonl --out docs/results/auto.md

Finished cells are kept in ``--cache`` (one JSON line each), so that a stopped run goes on where it was. Seeds from 100 on
(strings: 200): the candidate list and the rule that chooses were made while looking at smaller ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import read_lines

from reprogram.evaluation.compare import compare
from reprogram.evaluation.features import CachedSource, shared_answers, source_outputs
from reprogram.evaluation.point_metrics import main_metric
from reprogram.hooks import Run
from reprogram.interfaces import SourceModel, Tap, TargetTask, to_tensor_labels
from reprogram.modalities import Candidate, modality
from reprogram.model import ReprogrammedModel
from reprogram.result import Result
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.choose import Auto, choose
from reprogram.selection.crossval import learn
from reprogram.training.loop import Training

IMAGES = ("digits", "mnist", "cifar10")
FIRST_SEED = {name: 100 if name in IMAGES else 200 for name in (*IMAGES, "amp", "b3db", "bbbp")}


def load(name: str, few: int, seed: int, arguments: argparse.Namespace) -> TargetTask:
    """A target of this benchmark: ``few`` labels a class for images, in all for sequences and molecules."""
    if name in ("digits", "mnist"):
        from reprogram.targets.digits import digits
        from reprogram.targets.mnist import mnist

        return {"digits": digits, "mnist": mnist}[name](shots=few, seed=seed, test_size=arguments.test)
    if name == "cifar10":
        from reprogram.targets.image_folder import image_folder

        return image_folder(root=str(arguments.images), shots=few, seed=seed)
    if name in ("amp", "b3db"):
        from molecules.targets import b3db
        from reprogram.targets.amp import amp

        return {"amp": amp, "b3db": b3db}[name](labels=few, seed=seed)
    if name == "bbbp":
        from molecules.targets import molecules_csv

        return molecules_csv(str(arguments.bbbp), "smiles", "p_np", labels=few, seed=seed)
    raise SystemExit(f"unknown target {name}; allowed: digits, mnist, cifar10, amp, b3db, bbbp")


def read_test(source: SourceModel, task: TargetTask, listed: list[Candidate]) -> None:
    """One pass a view over the test inputs, with the taps of all candidates; the source remembers it."""
    wanted: dict[Tap, None] = {}
    for candidate in listed:
        output = make_output(candidate.output)
        output.build(source.spec, task.info)
        wanted.update(dict.fromkeys(output.taps()))
    for atom in dict.fromkeys(repr(atom) for candidate in listed for atom in candidate.atoms):
        method = next(a for candidate in listed for a in candidate.atoms if repr(a) == atom)
        reader = make_input(method)
        reader.build(source.spec, task.info)
        source_outputs(source, task.test, task.info, reader, tuple(wanted))


def cell(source: SourceModel, task: TargetTask, seed: int, minutes: float) -> dict[str, Any]:
    """Choose, then score the choice and every candidate on the test examples."""
    metric = main_metric(task.info)
    with tempfile.TemporaryDirectory() as folder:
        started, busy = time.perf_counter(), time.process_time()
        found = choose([source], task, Auto(minutes=minutes), Run(Path(folder), seed, Result("auto", seed)))
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    scores = {}
    listed = modality(task.info.kind).candidates(source.spec, task.info)
    read_test(source, task, listed)
    for candidate in listed:
        reader = make_input(candidate.input)
        reader.build(source.spec, task.info)
        output = make_output(candidate.output)
        output.build(source.spec, task.info)
        train = source_outputs(source, task.train, task.info, reader, output.taps())
        learn(output, train, to_tensor_labels(task.train.labels), task.info.problem, seed)
        test = source_outputs(source, task.test, task.info, reader, output.taps())
        with torch.no_grad():
            scores[candidate.name] = metric(task.test.labels, output(test).numpy())
    chosen = metric(task.test.labels, found.model.predict_proba(task.test))
    return {
        "chosen": found.candidate.name,
        "test": chosen,
        "forecast": found.estimate.value,
        "naive": found.estimate.naive,
        "oracle": max([chosen, *scores.values()]),
        "baselines": baselines(found.model, task, seed),
        "candidates": scores,
        "forecasts": [vars(f) for f in found.forecasts],
        "seconds": seconds,
        "cpu_seconds": busy,
        "minutes": minutes,
    }


def baselines(found: ReprogrammedModel, task: TargetTask, seed: int) -> dict[str, float]:
    """The product's own plain baselines: the linear probe and the target's features without any source."""
    with shared_answers(found):
        compared = compare(found, task, Training(), ["linear_probe", "raw_input"], seed)
    return {name: float(row[compared.metric]["value"]) for name, row in compared.baselines.items()}


def summary(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for key in dict.fromkeys((c["target"], c["shots"]) for c in cells):
        mine = [c for c in cells if (c["target"], c["shots"]) == key]

        def mean(value: Any, mine: list[dict[str, Any]] = mine) -> float:
            return float(np.mean([value(c) for c in mine]))

        rows.append(
            {
                "target": key[0],
                "shots": key[1],
                "seeds": len(mine),
                "auto": mean(lambda c: c["test"]),
                "interval": 1.96 * float(np.std([c["test"] for c in mine], ddof=1) / len(mine) ** 0.5)
                if len(mine) > 1
                else 0.0,
                "linear_probe": mean(lambda c: c["baselines"]["linear_probe"]),
                "best_baseline": max(mean(lambda c, n=n: c["baselines"][n]) for n in mine[0]["baselines"]),
                "oracle": mean(lambda c: c["oracle"]),
                "forecast": mean(lambda c: c["forecast"]),
                "naive": mean(lambda c: c["naive"]),
                "slowest": max(c["seconds"] for c in mine),
                "busiest": max(c["cpu_seconds"] for c in mine),
            }
        )
    return rows


def page(rows: list[dict[str, Any]], cells: list[dict[str, Any]]) -> str:
    lines = [
        "# `program=auto`",
        "",
        "Written by `python benchmarks/auto.py --only-table` from the cells that `--targets digits mnist cifar10 --shots 16 64`",
        "and `--targets bbbp amp b3db --shots 32 128` compute. Accuracy (images, labels a class) or ROC-AUC (strings, labels in",
        "all) on the test set, mean over seeds ± 95% interval. Rows with fewer than 5 seeds are a part of the plan of 5; what",
        "has no row was not measured. One thread on a machine that did other work. Strings are drawn with seeds from 200 on: the",
        "rule that chooses among their programs was changed after the least error had been seen to choose badly on 100 to 104.",
        "",
    ]
    head = ["target", "labels", "seeds", "auto", "linear probe", "best single baseline", "best by test labels"]
    head += ["forecast (corrected)", "forecast (naive)", "slowest search, s", "most processor time, s"]
    lines.append("| " + " | ".join(head) + " |")
    lines.append("|" + "---|" * len(head))
    columns = ("linear_probe", "best_baseline", "oracle", "forecast", "naive")
    for r in rows:
        auto = f"**{r['auto']:.3f}** ± {r['interval']:.3f}"
        cells_of_row = [
            r["target"],
            r["shots"],
            r["seeds"],
            auto,
            *(f"{r[c]:.3f}" for c in columns),
            f"{r['slowest']:.0f}",
            f"{r['busiest']:.0f}",
        ]
        lines.append("| " + " | ".join(map(str, cells_of_row)) + " |")
    images = [r for r in rows if r["target"] in IMAGES]
    few = [r for r in images if r["shots"] == min(x["shots"] for x in images)]
    strings = [r for r in rows if r["target"] not in IMAGES]
    gains = {
        "Images, fewest labels: above the linear probe, mean": (few, "linear_probe", "≥ 10"),
        "Sequences and molecules: above the best single baseline, mean": (strings, "best_baseline", "≥ 1.5"),
    }
    worst = min((r["auto"] - r["best_baseline"]) * 100 for r in rows)
    regret = float(np.mean([r["oracle"] - r["auto"] for r in rows])) * 100
    gap = float(np.mean([r["forecast"] - r["auto"] for r in rows])) * 100
    late = sum(c["seconds"] > 60 * c["minutes"] for c in cells)
    limits = ", ".join(f"{m:g}" for m in sorted({c["minutes"] for c in cells}))
    lines += [
        "",
        *(
            f"- {text}: {float(np.mean([r['auto'] - r[other] for r in some])) * 100:+.1f} points (target: {target})."
            for text, (some, other, target) in gains.items()
            if some
        ),
        f"- Against the best single baseline, worst target: {worst:+.1f} points (target: never below -1).",
        f"- Behind the best program by test labels, mean: {regret:.1f} points (target: ≤ 1).",
        f"- Forecast minus real accuracy, mean: {gap:+.1f} points (target: within 1).",
        f"- Searches over their limit ({limits} minutes): {late} of {len(cells)} (target: none).",
    ]
    trials = [(f, c) for c in cells for f in c["forecasts"]]
    if trials:
        promised = sum(f["gain"] > 1 for f, _ in trials)
        lines.append(
            f"- Prompt trials: {len(trials)}, of which {promised} promised a gain and went on to full training."
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=["digits", "mnist"])
    parser.add_argument("--images", type=Path, help="folder with train/ and test/ for the target cifar10")
    parser.add_argument("--bbbp", type=Path, help="table with the columns smiles and p_np for the target bbbp")
    parser.add_argument("--shots", nargs="+", type=int, default=[16, 64], help="labels a class; strings: in all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--memory", type=float, default=3000.0, help="MB for what the source answered")
    parser.add_argument("--cache", type=Path, default=Path("auto.jsonl"))
    parser.add_argument("--only-table", action="store_true", help="write the page from the finished cells")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from reprogram.sources import load_source

    done = read_lines(arguments.cache)
    for name in [] if arguments.only_table else arguments.targets:
        source: SourceModel | None = None
        for shots in arguments.shots:
            for seed in range(FIRST_SEED[name], FIRST_SEED[name] + arguments.seeds):
                if any((c["target"], c["shots"], c["seed"]) == (name, shots, seed) for c in done):
                    continue
                task = load(name, shots, seed, arguments)
                if source is None:
                    plain = load_source("efficientnet_lite0" if name in IMAGES else "minilm")
                    source = CachedSource(plain, arguments.memory)  # draws of one data set share passes
                row = {"target": name, "shots": shots, "seed": seed} | cell(source, task, seed, arguments.minutes)
                done.append(row)
                with arguments.cache.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{name} {shots} shots, seed {seed}: {row['chosen']} {row['test']:.3f}", flush=True)
    done = [c for c in done if c["seed"] >= FIRST_SEED[c["target"]]]
    rows = summary(done)
    text = page(rows, done)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    seeds = sorted({c["seed"] for c in done})
    print(json.dumps({"rows": rows, "seeds": seeds, "versions": versions}))


if __name__ == "__main__":
    main()
