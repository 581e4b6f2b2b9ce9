"""Does training in front of a frozen model pay where the model comes from another domain? Learned maps of tokens.

    python benchmarks/cross_domain.py --source chemistry=FOLDER --data FOLDER --jobs 8 --out docs/results/cross_domain.md

A source is a language model as transformers saves it. That of ``rxnfp`` (``pip download --no-deps rxnfp``, unzip, folder
``bert_pretrained``) lacks ``"model_type": "bert"`` in its config.json; write it there. --data has bbbp.csv, esol.csv,
splice.csv and tweets.csv (:mod:`_cross_domain_sets`). Finished cells are kept in ``--cache``, so that a stopped run goes on;
``--only-table`` writes the page from them. Epochs and rates were chosen on seeds 0 and 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cross_domain_page import READINGS, page
from _cross_domain_sets import METRICS, TARGETS, load
from common import append_line, read_lines, side_by_side, versions, write_page

from reprogram.errors import SourceError
from reprogram.evaluation.features import SourceAnswers
from reprogram.evaluation.metrics import statistic
from reprogram.hooks import Run
from reprogram.inputs.soft_prompt import SoftPrompt
from reprogram.inputs.text import Text
from reprogram.inputs.token_map import TokenMap
from reprogram.interfaces import InputTransformation, OutputMapping, SourceOutput, TargetTask, to_tensor_labels
from reprogram.model import ReprogrammedModel
from reprogram.outputs.bayesian import BayesianMapping
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.result import Result
from reprogram.selection.choose import Auto, choose
from reprogram.selection.crossval import learn
from reprogram.selection.maps import BATCH, RATE, WHOLE, unread_share
from reprogram.sources.minilm import MiniLM
from reprogram.sources.text import TextSource
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit

FIRST_SEED = 100
ROWS = (
    "untrained map",
    "trained map",
    "text",
    "soft prompt",
    "random weights, untrained map",
    "random weights, trained map",
)
WORDS = ("what this text says", "CCO")  # that a soft prompt starts from: the first that the source has tokens for
Cell = dict[str, Any]
Given = argparse.Namespace  # what was typed
Asked = tuple[str, str, int, int, str]  # source, target, labels, seed, row


@lru_cache(maxsize=8)
def source_of(name: str, folder: str, random: bool, device: str) -> TextSource:
    found = MiniLM() if name == "minilm" else TextSource(folder)
    return (found.with_random_weights(0) if random else found).to(device)


def made(row: str, source: TextSource, target: str) -> InputTransformation:
    """The input transformation of a row."""
    if row == "text":
        return Text()
    if row == "soft prompt":
        vocabulary = source.spec.vocabulary
        assert vocabulary is not None
        known = [words for words in WORDS if vocabulary.unread is None or not np.array(vocabulary.unread([words]))[0][0]]
        return SoftPrompt(words=(known or WORDS)[0])
    return TokenMap(TARGETS[target])


def answers(source: TextSource, before: InputTransformation, taps: tuple[Any, ...], task: TargetTask) -> list[list[SourceOutput]]:
    """What the source says of the training and of the test examples, on the CPU."""
    model = ReprogrammedModel(source, before.eval(), SourceAnswers(taps), task.info, build=False)
    return [[on_cpu(output) for output in model.collect(examples)] for examples in (task.train, task.test)]


def on_cpu(output: SourceOutput) -> SourceOutput:
    features = None if output.features is None else output.features.cpu()
    return SourceOutput(output.logits.cpu(), features, {tap: values.cpu() for tap, values in output.taps.items()})


def score(predicted: np.ndarray, task: TargetTask) -> float:
    metric = statistic(METRICS[task.info.problem], predicted, task.test.labels, task.info.problem)
    return float(metric(np.ones((1, len(task.test))))[0])


def measured(source: TextSource, row: str, target: str, task: TargetTask, seed: int, given: Given) -> dict[str, float]:
    """The score of every reading that source and target have. A label mapping is what its row was trained under."""
    info, trained = task.info, "untrained" not in row and row != "text"
    layers = RidgeTaps(balanced=info.problem != "regression")
    outputs: dict[str, OutputMapping] = {"linear": LinearFeatures(), "several layers": layers}
    if source.spec.labels and info.problem == "classification" and "label mapping" in given.readings:
        outputs["label mapping"] = BayesianMapping()
    found: dict[str, float] = {}
    before: InputTransformation | None = None
    for reading, output in outputs.items():
        if before is None or (trained and reading == "label mapping"):
            before = made(row, source, target)
            under = BayesianMapping() if reading == "label mapping" else LinearFeatures()
            model = ReprogrammedModel(source, before, under, info).to(given.device)
            if trained:
                fit(model, task.train, Training(WHOLE, BATCH, Backpropagation(learning_rate=RATE)), seed)
            layers.build(source.spec, info)
            train, test = answers(source, before, layers.taps(), task)
        output.build(source.spec, info)
        learn(output, train, to_tensor_labels(task.train.labels), info.problem)
        with torch.no_grad():
            predicted = output(test).float()
        found[reading] = score((predicted.softmax(1) if info.problem == "classification" else predicted).numpy(), task)
    return found


def chosen(source: TextSource, task: TargetTask, seed: int) -> dict[str, Any]:
    """What ``program=auto`` reaches, and with what."""
    with tempfile.TemporaryDirectory() as folder:
        found = choose([source], task, Auto(minutes=3), Run(Path(folder), seed, Result("auto", seed)))
    return {"auto": score(found.model.predict_proba(task.test), task), "chosen": found.candidate.name, "seconds": found.seconds}


def cell(asked: Asked, arguments: argparse.Namespace) -> Cell:
    name, target, labels, seed, row = asked
    torch.manual_seed(0)
    folder = dict(given.split("=", 1) for given in arguments.source).get(name, "")
    task = load(target, labels, seed, arguments.data, arguments.test)
    started, processor = time.perf_counter(), time.process_time()
    device = "cpu" if row == "auto" else arguments.device
    source = source_of(name, folder, row.startswith("random"), device)
    try:
        found = chosen(source, task, seed) if row == "auto" else measured(source, row, target, task, seed, arguments)
    except SourceError as error:  # it has no token for the strings, and training in front of them is refused
        found = {"why": str(error)}
    spent = {"wall_seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - processor}
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    head = {"source": name, "target": target, "labels": labels, "seed": seed, "row": row, "device": where}
    return head | {"unread": unread_share(source_of(name, folder, False, device), task)} | found | spent


def plan(arguments: argparse.Namespace) -> list[Asked]:
    """Cells in the order of their worth: one draw of everything, then the next; other numbers of labels last."""
    sources = [given.split("=", 1)[0] for given in arguments.source] + list(arguments.only)
    seeds = range(arguments.first, arguments.first + arguments.draws)
    cells = [
        (source, target, arguments.labels[0], seed, row)
        for seed in seeds
        for target in arguments.targets
        for source in sources
        for row in arguments.rows
    ]
    return cells + [
        (source, "amp", labels, seed, row)
        for labels in arguments.labels[1:]
        for seed in seeds
        for source in sources
        for row in arguments.rows[:3]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", nargs="+", default=[], metavar="NAME=FOLDER", help="further sources, by folder")
    parser.add_argument("--only", nargs="*", default=["minilm"], help="bundled sources to run")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--rows", nargs="+", default=[*ROWS, "auto"], choices=(*ROWS, "auto"))
    parser.add_argument("--readings", nargs="+", default=list(READINGS), choices=READINGS, help="a label mapping is trained anew")
    parser.add_argument("--data", type=Path, help="folder with the tables of the targets")
    parser.add_argument("--labels", type=int, nargs="+", default=[64, 16, 256], help="the first for every row, others for AMP")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first draw")
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--cache", type=Path, default=Path("cross_domain.jsonl"))
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cells = read_lines(arguments.cache)
    done = {(c["source"], c["target"], c["labels"], c["seed"], c["row"]) for c in cells}
    asked = [] if arguments.only_table else [one for one in plan(arguments) if one not in done]
    for _, fresh in side_by_side(partial(cell, arguments=arguments), asked, arguments.jobs):
        cells.append(fresh)
        append_line(arguments.cache, json.dumps(fresh))
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in fresh.items()}, flush=True)
    text = page(cells, FIRST_SEED, WHOLE)
    print(text)
    if arguments.out:
        command = "python benchmarks/cross_domain.py --source chemistry=FOLDER --data FOLDER --labels 64"
        write_page(arguments.out, "Training in front of a source of another domain", command, text)
    seeds = sorted({c["seed"] for c in cells})
    print(json.dumps({"cells": len(cells), "seeds": seeds, "versions": versions("torch", "transformers")}))


if __name__ == "__main__":
    main()
