"""Does training in front of a frozen model pay where the model comes from another domain? Learned maps of tokens.

    python benchmarks/cross_domain.py --source chemistry=FOLDER --bbbp PATH --out docs/results/cross_domain.md

FOLDER is a masked language model as transformers saves it. That of ``rxnfp`` (``pip download --no-deps rxnfp``, unzip, folder
``bert_pretrained``) lacks ``"model_type": "bert"`` in its config.json; write it there. Finished cells are kept in ``--cache``,
so that a stopped run goes on; ``--only-table`` writes the page from them. Epochs and rates were chosen on seeds 0 and 1.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import append_line, read_lines, versions, write_page
from scipy.stats import t

from reprogram.evaluation.metrics import statistic
from reprogram.inputs.text import Text
from reprogram.inputs.token_map import TokenMap
from reprogram.interfaces import InputTransformation, OutputMapping, SourceModel, TargetTask, to_tensor_labels
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.selection.crossval import learn
from reprogram.selection.maps import BATCH, RATE, WHOLE, unread_share
from reprogram.sources.minilm import MiniLM
from reprogram.sources.text import TextSource
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit

FIRST_SEED = 100
ROWS = ("text", "untrained map", "trained map", "random weights, untrained map", "random weights, trained map")
READINGS = ("linear", "several layers")
Cell = dict[str, Any]


def load(name: str, labels: int, seed: int, arguments: argparse.Namespace) -> TargetTask:
    """A target with ``labels`` training labels and at most ``--test`` fixed test examples."""
    if name == "amp":
        from reprogram.targets.amp import amp

        task = amp(labels=labels, seed=seed)
    else:
        from molecules.targets import molecules_csv

        task = molecules_csv(str(arguments.bbbp), "smiles", "p_np", labels=labels, seed=seed)
    picked = np.sort(np.random.default_rng(0).permutation(len(task.test))[: arguments.test])
    task.test = task.test.subset(picked)
    return task


def tokens_of(name: str) -> str:
    return {"amp": "amino_acids", "bbbp": "smiles"}[name]


def scores(source: SourceModel, before: InputTransformation, output: OutputMapping, task: TargetTask) -> float:
    """ROC-AUC on the test examples of ``output`` fitted to its optimum behind ``before``."""
    output.build(source.spec, task.info)
    model = ReprogrammedModel(source, before, output, task.info, build=False)
    learn(output, model.collect(task.train), to_tensor_labels(task.train.labels), task.info.problem)
    predicted = model.predict_proba(task.test)
    return float(statistic("roc_auc", predicted, task.test.labels, task.info.problem)(np.ones((1, len(task.test))))[0])


def cell(source: SourceModel, row: str, name: str, task: TargetTask, seed: int) -> dict[str, float]:
    """ROC-AUC of both readings."""
    before: InputTransformation = Text() if row == "text" else TokenMap(tokens_of(name))
    if row.endswith("untrained map") or row == "text":
        before.build(source.spec, task.info)
    else:
        model = ReprogrammedModel(source, before, LinearFeatures(), task.info)
        fit(model, task.train, Training(WHOLE, BATCH, Backpropagation(learning_rate=RATE)), seed)
    before.eval()
    outputs = (LinearFeatures(), RidgeTaps(balanced=True))
    return {reading: scores(source, before, output, task) for reading, output in zip(READINGS, outputs, strict=True)}


def page(cells: list[Cell], arguments: argparse.Namespace) -> str:
    found: dict[tuple[str, str, str], dict[int, Cell]] = defaultdict(dict)
    for c in cells:
        found[c["source"], c["target"], c["row"]][c["seed"]] = c
    lines = [
        f"ROC-AUC, {arguments.labels} labels, {arguments.test} test examples, seeds from {FIRST_SEED} on (epochs and learning",
        "rates were chosen on seeds 0 and 1). Mean ± standard deviation over draws. The map is `token_map` of the target's",
        f"tokens, trained for {WHOLE} epochs under a linear layer; *several layers* is a ridge on six layers fitted behind it.",
        "Unknown: the share of characters without a token of the source, from which on `program=auto` races maps (5 %).",
        "",
        "| source | target | unknown | draws | reading | " + " | ".join(ROWS) + " | trained minus untrained |",
        "|" + "---|" * (6 + len(ROWS)),
    ]
    for source, target in dict.fromkeys((c["source"], c["target"]) for c in cells):
        of = {row: found[source, target, row] for row in ROWS}
        unknown = next(c["unread"] for c in cells if (c["source"], c["target"]) == (source, target))
        draws = max(map(len, of.values()))
        for reading in READINGS:
            shown = [_mean([c[reading] for c in of[row].values()]) for row in ROWS]
            both = sorted(of["trained map"].keys() & of["untrained map"].keys())
            gaps = [100 * (of["trained map"][s][reading] - of["untrained map"][s][reading]) for s in both]
            gain = f"{np.mean(gaps):+.1f} points" if gaps else ""
            if len(gaps) > 2:
                half = float(t.ppf(0.975, len(gaps) - 1)) * np.std(gaps, ddof=1) / len(gaps) ** 0.5
                gain += f" ({np.mean(gaps) - half:+.1f} to {np.mean(gaps) + half:+.1f})"
            lines.append(
                f"| {source} | {target} | {unknown:.0%} | {draws} | {reading} | " + " | ".join(shown) + f" | {gain} |"
            )
    told = "Intervals are 95 % intervals of the mean over draws (Student's t); an empty cell was not run."
    return "\n".join([*lines, "", told])


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def run(arguments: argparse.Namespace, cells: list[Cell]) -> None:
    sources: dict[str, SourceModel] = {"minilm": MiniLM()} if "minilm" in arguments.only else {}
    for name, folder in (given.split("=", 1) for given in arguments.source):
        sources[name] = TextSource(folder)
    drawn = {name: source.with_random_weights(0) for name, source in sources.items() if isinstance(source, TextSource)}
    done = {(c["source"], c["target"], c["seed"], c["row"]) for c in cells}
    pairs = [(name, target) for target in arguments.targets for name in reversed(sources)]
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.draws):
        for name, target in pairs:
            task = load(target, arguments.labels, seed, arguments)
            for row in ROWS:
                if (name, target, seed, row) in done:
                    continue
                started = time.process_time()
                source = drawn[name] if row.startswith("random") else sources[name]
                fresh = {"source": name, "target": target, "seed": seed, "row": row, "unread": unread_share(sources[name], task)}
                fresh |= cell(source, row, target, task, seed)
                cells.append(fresh | {"cpu_seconds": time.process_time() - started})
                append_line(arguments.cache, json.dumps(cells[-1]))
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in cells[-1].items()}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", nargs="+", default=[], metavar="NAME=FOLDER", help="further sources, by folder")
    parser.add_argument("--only", nargs="*", default=["minilm"], help="bundled sources to run")
    parser.add_argument("--targets", nargs="+", default=["amp", "bbbp"], choices=("amp", "bbbp"))
    parser.add_argument("--bbbp", type=Path, help="CSV with smiles,p_np")
    parser.add_argument("--labels", type=int, default=64)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--cache", type=Path, default=Path("cross_domain.jsonl"))
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cells = read_lines(arguments.cache)
    if not arguments.only_table:
        torch.manual_seed(0)
        run(arguments, cells)
    text = page(cells, arguments)
    print(text)
    if arguments.out:
        command = f"python benchmarks/cross_domain.py --source chemistry=FOLDER --bbbp PATH --labels {arguments.labels}"
        write_page(arguments.out, "Training in front of a source of another domain", command, text)
    seeds = sorted({c["seed"] for c in cells})
    print(json.dumps({"cells": len(cells), "seeds": seeds, "versions": versions("torch", "transformers")}))


if __name__ == "__main__":
    main()
