"""Poisoned few-label sets: what reaches a program, which outputs resist, and who finds the poisoned examples.

    python benchmarks/poisoned_labels.py --cifar PATH [--seeds 100 … 109] [--prompt-seeds 100 101 102] [--cells FILE]
        [--data digits mnist cifar10-small] [--part 0 --parts 1]

16 labels a class (seed), of which a share is poisoned: a patch in a corner of images of other classes that get the attacked
label; a sinusoid on images of the attacked class, whose labels stay right; labels flipped to any class, or to the attacked
one. Every program learns the set as it is and without the suspected examples; 300 test images, plain and with the trigger,
judge. Success: triggered test images of other classes that go to the attacked label and did not without the trigger.
Finished cells are kept in FILE; the page is written from them.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _poisoned_page import page
from cached_answers import Recollecting
from common import append_line, read_lines, versions, write_page
from sklearn.metrics import roc_auc_score
from torch import Tensor

from reprogram.backdoor.detection.poisoned_labels import poison, trigger_of
from reprogram.inputs.none import NoPrompt
from reprogram.inputs.views import Views
from reprogram.interfaces import InputTransformation, OutputMapping, SourceOutput
from reprogram.labels.shared_patterns import find_shared_patterns
from reprogram.labels.suspects import find_suspects
from reprogram.model import ReprogrammedModel, pick
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.registry import find
from reprogram.robustness.checks._relearning import keep
from reprogram.robustness.checks.flipped_labels import flip
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.base import ArrayExamples
from reprogram.targets.digits import digits
from reprogram.targets.image_folder import image_folder
from reprogram.targets.mnist import mnist
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit

SHOTS, TEST, SIDE = 16, 300, 128
ATTACKS = [("none", 0.0), ("patch", 0.05), ("patch", 0.1), ("clean_label", 0.05), ("clean_label", 0.1)]
ATTACKS += [("flipped", 0.1), ("flipped_to_one", 0.1)]
CACHED = ["ridge_taps", "gaussian_process", "linear_features", "top_k", "many_to_one", "bayesian_plus", "frequency"]
PROMPTS = [("pad", "iterative", 0.05), ("full", "linear_features", 0.01)]
PROMPT_SIDE, EPOCHS = 96, 15


@dataclass
class Poisoned:
    """One poisoned training set. rows: poisoned. target: the attacked class. suspects: rows by finder."""

    images: Tensor
    labels: np.ndarray
    rows: np.ndarray
    target: int
    kind: str
    suspects: dict[str, np.ndarray] = field(default_factory=dict)


class Draw:
    """The labelled examples of one seed and what the frozen model answers for them, plain and triggered."""

    def __init__(self, data: str, seed: int, cifar: str | None) -> None:
        made = {"digits": digits, "mnist": mnist, "cifar10-small": partial(image_folder, str(cifar))}
        self.data, self.seed = data, seed
        task = made[data](shots=SHOTS, seed=seed)  # type: ignore[operator]
        self.info, self.target = task.info, seed % len(task.info.classes)
        self.images, self.labels = task.train.batch(range(len(task.train))), np.asarray(task.train.labels)
        rows = np.random.default_rng(0).permutation(len(task.test))[:TEST]
        self.tested, self.truth = task.test.batch(rows), np.asarray(task.test.labels)[rows]
        self.source = EfficientNetLite()
        self.triggers = {k: trigger_of(k, self.target, self.images.shape[-2:], seed) for k in ("patch", "clean_label")}
        self.known: dict[str, list[SourceOutput]] = {}

    def read(self, name: str, images: Tensor) -> list[SourceOutput]:
        """Answers of the source at 128 px, asked once a name: layers, features and logits."""
        if name not in self.known:
            every = RidgeTaps()
            model = ReprogrammedModel(self.source, Views(sizes=(SIDE,)), every, self.info)
            self.known[name] = model.collect(ArrayExamples(images.numpy(), np.zeros(len(images))))
        return self.known[name]

    def trigger(self, kind: str) -> Any:
        return self.triggers.get(kind, self.triggers["patch"])

    def poisoned(self, kind: str, share: float) -> Poisoned:
        images, labels, rows = self.images.clone(), self.labels.copy(), np.zeros(0, int)
        if kind == "flipped":
            labels, rows = flip(self.labels, share, len(self.info.classes), self.seed)
        elif kind != "none":
            labels, rows = poison(self.trigger(kind), self.labels, share, self.seed)
        if kind in self.triggers:
            images[rows] = self.trigger(kind)(images[rows])
        return Poisoned(images, labels, rows, self.target, kind)

    def outputs(self, poisoned: Poisoned) -> list[SourceOutput]:
        """Of the training images as they are poisoned."""
        plain = self.read("train", self.images)
        if poisoned.kind not in self.triggers:
            return plain
        changed = self.read(f"train {poisoned.kind}", self.trigger(poisoned.kind)(self.images))
        order = torch.arange(len(self.labels))
        order[torch.from_numpy(poisoned.rows)] += len(self.labels)
        both = [
            SourceOutput(
                torch.cat([a.logits, b.logits]),
                torch.cat([a.features, b.features]),  # type: ignore[list-item]
                {tap: torch.cat([a.taps[tap], b.taps[tap]]) for tap in a.taps},
            )
            for a, b in zip(plain, changed, strict=True)
        ]
        return pick(both, order)

    def found(self, poisoned: Poisoned) -> dict[str, Any]:
        """Who finds the poisoned examples: ROC-AUC of each score, share found, and how many others are suspected."""
        output = RidgeTaps()
        output.build(self.source.spec, self.info)
        outputs = self.outputs(poisoned)
        output.fit(outputs, torch.from_numpy(poisoned.labels))
        assert output.left_out is not None and outputs[0].features is not None
        doubted = find_suspects(output.left_out.double().softmax(1).numpy(), poisoned.labels)
        shared = find_shared_patterns(poisoned.images, poisoned.labels)
        poisoned.suspects = {"labels": doubted.doubtful(), "pattern": shared.suspected}
        poisoned.suspects["both"] = np.union1d(doubted.doubtful(), shared.suspected).astype(int)
        features = outputs[0].features.double().numpy()
        scores = {"labels": doubted.wrong, "pattern": shared.score, "breadth": shared.breadth}
        scores |= {"spectral": spectral(features, poisoned.labels), "neighbours": neighbours(features, poisoned.labels)}
        wrong = np.isin(np.arange(len(poisoned.labels)), poisoned.rows)
        told: dict[str, Any] = {"poisoned": len(poisoned.rows)}
        if wrong.any():
            told["auc"] = {name: float(roc_auc_score(wrong, score)) for name, score in scores.items()}
        for name, rows in poisoned.suspects.items():
            told[name] = {"suspected": len(rows), "found": int(np.isin(poisoned.rows, rows).sum())}
        return told

    def judged(self, answers: np.ndarray, triggered: np.ndarray) -> dict[str, float]:
        others = self.truth != self.target
        taken = (triggered == self.target) & (answers != self.target)
        return {"accuracy": float((answers == self.truth).mean()), "success": float(taken[others].mean())}

    def cached(self, name: str, poisoned: Poisoned, rows: np.ndarray) -> dict[str, float]:
        """A program without a trained input, on the answers that are known."""
        output: OutputMapping = find("reprogram.outputs", name, OutputMapping)()
        model = Recollecting(self.source, NoPrompt(), output, self.info)
        train = ArrayExamples(poisoned.images[rows].numpy(), poisoned.labels[rows])
        plain, moved = (ArrayExamples(self.tested.numpy(), self.truth) for _ in range(2))
        model.recall((train, pick(self.outputs(poisoned), torch.from_numpy(rows))), (plain, self.read("test", self.tested)))
        kind = poisoned.kind if poisoned.kind in self.triggers else "patch"
        model._answers[id(moved)] = self.read(f"test {kind}", self.trigger(kind)(self.tested))
        fit(model, train, Training(precision="float32"), self.seed)
        return self.judged(model.predict(plain), model.predict(moved))

    def prompt(self, row: tuple[str, str, float], poisoned: Poisoned, rows: np.ndarray) -> dict[str, float]:
        before: InputTransformation = find("reprogram.inputs", row[0], InputTransformation)(size=PROMPT_SIDE)
        output: OutputMapping = find("reprogram.outputs", row[1], OutputMapping)()
        model = ReprogrammedModel(self.source, before, output, self.info)
        train = ArrayExamples(poisoned.images[rows].numpy(), poisoned.labels[rows])
        fit(model, train, Training(EPOCHS, 32, Backpropagation(learning_rate=row[2])), self.seed)
        return self.judged(model.predict(self.tested), model.predict(self.trigger(poisoned.kind)(self.tested)))


def spectral(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Spectral signatures (Tran, Li & Madry 2018, arXiv 1811.00636): squared projection on the class's first direction."""
    score = np.zeros(len(labels))
    for label in np.unique(labels):
        own = features[labels == label] - features[labels == label].mean(0)
        score[labels == label] = (own @ np.linalg.svd(own, full_matrices=False)[2][0]) ** 2
    return score


def neighbours(features: np.ndarray, labels: np.ndarray, count: int = 8) -> np.ndarray:
    """Deep k-NN (Peri et al. 2020, arXiv 1909.13374): share of the nearest examples with another label."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    like = unit @ unit.T - 2 * np.eye(len(unit))
    return np.asarray((labels[np.argsort(-like, axis=1)[:, :count]] != labels[:, None]).mean(1))


def jobs(args: argparse.Namespace) -> list[tuple[str, int, bool]]:
    """(data, seed, trained prompts?), cheap and most telling ones first."""
    listed = [(data, seed, False) for seed in args.seeds for data in args.data]
    return listed + [(data, seed, True) for seed in args.prompt_seeds for data in args.data]


def measure(args: argparse.Namespace) -> None:
    done = {(c["data"], c["seed"], c["attack"], c["share"], c["program"]) for c in read_lines(args.cells)}
    for data, seed, prompts in jobs(args)[args.part :: args.parts]:
        programs = ["+".join(map(str, row[:2])) for row in PROMPTS] if prompts else CACHED
        missing = [(k, s) for k, s in ATTACKS if any((data, seed, k, s, p) not in done for p in programs)]
        draw = Draw(data, seed, args.cifar) if missing else None
        for kind, share in missing:
            assert draw is not None
            poisoned = draw.poisoned(kind, share)
            found = draw.found(poisoned)
            every = np.arange(len(poisoned.labels))
            kept = keep(every, poisoned.suspects["both"], poisoned.labels)
            for index, name in enumerate(programs):
                if (data, seed, kind, share, name) in done:
                    continue
                run = partial(draw.prompt, PROMPTS[index]) if prompts else partial(draw.cached, name)
                cell: dict[str, Any] = {"data": data, "seed": seed, "attack": kind, "share": share, "program": name}
                hurt = run(poisoned, every)
                cell |= {"as_poisoned": hurt, "cleaned": hurt if len(kept) == len(every) else run(poisoned, kept)}
                append_line(args.cells, json.dumps(cell | {"finders": found, "machine": machine()}))
                print(data, seed, kind, share, name, cell["as_poisoned"], cell["cleaned"], flush=True)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="folder of cifar10-small")
    parser.add_argument("--data", nargs="+", default=["digits", "mnist", "cifar10-small"])
    parser.add_argument("--seeds", nargs="*", type=int, default=list(range(100, 110)))
    parser.add_argument("--prompt-seeds", nargs="*", type=int, default=[100, 101, 102])
    parser.add_argument("--cells", type=Path, default=Path("outputs/poisoned_labels/cells.jsonl"))
    parser.add_argument("--part", type=int, default=0, help="of --parts processes that share the cells")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--page", type=Path, help="docs/results/poisoned_labels.md")
    args = parser.parse_args()
    if not args.cifar:
        args.data = [name for name in args.data if name != "cifar10-small"]
    measure(args)
    cells = read_lines(args.cells)
    if args.page:
        write_page(args.page, "Poisoned few-label sets", "python benchmarks/poisoned_labels.py --cifar PATH", page(cells))
    print(json.dumps({"cells": len(cells), "seeds": sorted({c["seed"] for c in cells}), "versions": versions("torch")}))


if __name__ == "__main__":
    main()
