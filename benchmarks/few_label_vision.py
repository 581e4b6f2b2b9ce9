"""Every input x output pair that makes sense, with few labels, beside what a user would run instead.

    python benchmarks/few_label_vision.py --cifar PATH [--shots 16 64] [--seeds 5] [--cache FOLDER] [--jobs 8]

Finished cells are kept in FOLDER/cells.jsonl and never computed again; the table in docs/results/ is written from them.
Seeds 0, 1, … draw the training labels; the test set is the same for all. Settings were chosen on other draws (seeds 100 to
104) with the rest of the *training* pool as their test set, so no test label of this table chose anything.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cached_answers import Answers, Recollecting, View
from common import append_line, read_lines, side_by_side
from few_label_table import write_table

from reprogram.evaluation.baselines.base import Bench
from reprogram.evaluation.baselines.from_scratch import FromScratch
from reprogram.evaluation.baselines.raw_input import RawInput
from reprogram.evaluation.simple_models import fit_predict
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import InputTransformation, OutputMapping, TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.registry import find
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.digits import digits
from reprogram.targets.image_folder import image_folder
from reprogram.targets.mnist import mnist
from reprogram.training.augment import Affine
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit

SCALES = (96, 128, 160, 224)
INPUTS: dict[str, list[View]] = {  # inputs without parameters
    "none": [(224, "plain")],
    "none, 128 px": [(128, "plain")],
    "views": [(side, "plain") for side in SCALES],
    "views, inverted": [(side, change) for side in SCALES[:3] for change in ("plain", "inverted")],
    "views, mirrored": [(side, change) for side in SCALES for change in ("plain", "mirrored")],
}
NOT_FOR = {"views, inverted": ("cifar10-small",), "views, mirrored": ("digits", "mnist")}
CLOSED = ["random", "frequency", "bayesian", "bayesian_plus", "many_to_one", "top_k", "linear", "linear_features"]
ON_VIEWS = ["frequency", "bayesian_plus", "top_k", "linear_features", "ridge_taps"]


@dataclass
class Row:
    """A program of the table. ``rate``: learning rate of a trained prompt."""

    group: str
    input: str
    output: str
    options: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.0

    @property
    def name(self) -> str:
        more = "".join(f", {k} {v}" for k, v in self.options.items() if k != "average")
        return f"{self.input} + {self.output}{more}"


def programs() -> list[Row]:
    """Programs that need cached passes alone."""
    kinds = {"linear": "linear output", "linear_features": "linear output", "ridge_taps": "linear output"}
    rows = [Row(kinds.get(o, "label mapping"), "none", o) for o in [*CLOSED, "ridge_taps"]]
    rows += [Row("linear output", "none, 128 px", "ridge_taps", {"weigh": w}) for w in ("left_out", "equal")]
    for name in ("views", "views, inverted", "views, mirrored"):
        average = {"average": 2} if name == "views, mirrored" else {}
        for output in ON_VIEWS if name == "views" else ["top_k", "ridge_taps"]:
            options = average if output == "ridge_taps" else {}
            rows.append(Row(kinds.get(output, "label mapping"), name, output, options))
    return rows


def prompts() -> list[Row]:
    """Programs with a trained prompt, the field's common setting first."""
    pairs = [("pad", "iterative", 0.05), ("full", "top_k", 0.01), ("full", "iterative", 0.01)]
    pairs += [("sample_mask", "iterative", 0.01), ("resize", "iterative", 0.05), ("low_rank", "iterative", 0.02)]
    pairs += [("pad", "bayesian_plus", 0.05), ("pad", "frequency", 0.05), ("pad", "random", 0.05)]
    pairs += [("low_rank", "linear_features", 0.02), ("resize", "linear", 0.05), ("full", "ridge_taps", 0.01)]
    linear = ("linear", "linear_features", "ridge_taps")
    return [Row("trained prompt, linear output" if o in linear else "trained prompt", i, o, {}, r) for i, o, r in pairs]


class Benchmark:
    """Datasets, cached answers and finished cells."""

    def __init__(self, args: argparse.Namespace, answers: str = "answers") -> None:
        self.args, self.cache, self.kept = args, Path(args.cache), answers
        self.cells_file = self.cache / "cells.jsonl"
        self.source = EfficientNetLite()
        self.answers: dict[str, Answers] = {}
        self.done = {self.key(cell) for cell in read_lines(self.cells_file)}

    @staticmethod
    def key(cell: dict[str, Any]) -> tuple[Any, ...]:
        return cell["data"], cell["shots"], cell["seed"], cell["group"], cell["row"], cell["setting"]

    def task(self, data: str, shots: int, seed: int) -> TargetTask:
        make: dict[str, Callable[..., TargetTask]] = {"digits": digits, "mnist": mnist}
        if self.args.cifar:
            make["cifar10-small"] = partial(image_folder, self.args.cifar)
        task = make[data](shots=shots, seed=seed)
        kept = np.random.default_rng(0).permutation(len(task.test))[: self.args.test]
        task.test, task.test_rows = task.test.subset(kept), [task.test_rows[i] for i in kept]
        return task

    def cell(
        self, data: str, shots: int, seed: int, group: str, row: str, run: Callable[[], Any], setting: str
    ) -> None:
        """Compute one cell unless it is known."""
        cell: dict[str, Any] = {"data": data, "shots": shots, "seed": seed, "group": group, "row": row}
        cell["setting"] = setting
        if self.key(cell) in self.done:
            return
        started = time.perf_counter()
        scores, labels = run()
        cell |= {"accuracy": float((scores.argmax(1) == labels).mean()), "n": len(labels)}
        cell["seconds"] = round(time.perf_counter() - started, 2)
        append_line(self.cells_file, json.dumps(cell))
        self.done.add(self.key(cell))

    def answered(self, data: str, task: TargetTask, views: list[View], weights: int | None = None) -> Any:
        """Outputs of training and test examples from the cached passes (``weights``: of an untrained copy)."""
        key = data if weights is None else f"{data} random {weights}"
        if key not in self.answers:
            source = self.source if weights is None else self.source.with_random_weights(weights)
            self.answers[key] = Answers(source, self.cache / self.kept / key.replace(" ", "_"))
        answers = self.answers[key]
        return (
            answers.outputs(task.train, task.train_rows, views),
            answers.outputs(task.test, task.test_rows, views),
        )

    def run(self) -> None:
        for piece in self.pieces():
            self.piece(*piece)

    def pieces(self) -> Iterator[tuple[str, str, int, int, int]]:
        """(what, data, shots, seed, number): parts of the table that no other part waits for; the least useful rows last."""
        for mirrored in (0, 1) if self.args.only != "prompts" else ():
            yield from (("cached", data, shots, seed, mirrored) for shots, seed, data in self.order(self.args.seeds))
        for seed in range(self.args.prompt_seeds) if self.args.only != "cached" else ():
            for row in range(len(prompts())):
                yield from (("prompt", data, self.args.shots[0], seed, row) for data in self.datasets())

    def piece(self, what: str, data: str, shots: int, seed: int, number: int) -> None:
        """Compute the cells of one part that are not there yet."""
        if what == "prompt":
            self.prompt(data, shots, seed, prompts()[number])
        else:
            self.without_prompt(data, shots, seed, bool(number))

    def datasets(self) -> list[str]:
        return ["digits", "mnist", *(["cifar10-small"] if self.args.cifar else [])]

    def order(self, seeds: int) -> Iterator[tuple[int, int, str]]:
        for shots in self.args.shots:
            for seed in range(seeds):
                yield from ((shots, seed, data) for data in self.datasets())

    def without_prompt(self, data: str, shots: int, seed: int, mirrored: bool) -> None:
        task = self.task(data, shots, seed)
        add = partial(self.cell, data, shots, seed, setting="")
        for row in programs():
            if data not in NOT_FOR.get(row.input, ()) and mirrored == row.input.endswith("mirrored"):
                add(row.group, row.name, partial(self.cached_program, data, task, row, seed))
        if not mirrored:
            self.baselines(data, task, shots, seed)

    def baselines(self, data: str, task: TargetTask, shots: int, seed: int) -> None:
        add = partial(self.cell, data, shots, seed, setting="")
        labels, test = task.train.labels, task.test.labels
        for name, model, view in [
            ("linear probe", "logistic", (224, "plain")),
            ("linear probe, 128 px", "logistic", (128, "plain")),
            ("nearest centroid", "nearest_centroid", (224, "plain")),
        ]:

            def probe(model: str = model, view: View = view) -> Any:
                train, other = self.answered(data, task, [view])
                a, b = train[0].features.numpy(), other[0].features.numpy()
                return fit_predict(model, a, labels, b, task.info, seed), test

            add("baseline", name, probe)
        model = ReprogrammedModel(
            self.source, NoPrompt(), find("reprogram.outputs", "random", OutputMapping)(), task.info
        )
        bench = Bench(model, task, np.zeros((len(test), len(task.info.classes))), Training(), seed)
        add("baseline", "raw input", lambda: (RawInput()(bench)["raw_input"], test))
        add("baseline", "from scratch", lambda: (FromScratch()(bench)["from_scratch"], test))
        if seed < 2 and shots == self.args.shots[0]:
            row = Row("baseline", "none, 128 px", "ridge_taps")
            add(
                "baseline",
                f"random source: {row.name}",
                partial(self.cached_program, data, task, row, seed, weights=seed),
            )

    def cached_program(self, data: str, task: TargetTask, row: Row, seed: int, weights: int | None = None) -> Any:
        """A program whose input has no parameters: the product's own training on the cached answers."""
        train, test = self.answered(data, task, INPUTS[row.input], weights)
        output: OutputMapping = find("reprogram.outputs", row.output, OutputMapping)(**row.options)
        if hasattr(output, "seed"):
            output.seed = seed
        model = Recollecting(self.source, NoPrompt(), output, task.info)
        model.recall((task.train, train), (task.test, test))
        fit(model, task.train, Training(precision="float32"), seed)
        return model.predict_proba(task.test), task.test.labels

    def prompt(self, data: str, shots: int, seed: int, row: Row) -> None:
        side, epochs = self.args.side, self.args.epochs

        def run() -> Any:
            task = self.task(data, shots, seed)
            input: InputTransformation = find("reprogram.inputs", row.input, InputTransformation)(size=side)
            output: OutputMapping = find("reprogram.outputs", row.output, OutputMapping)()
            for part in (input, output):
                if hasattr(part, "seed"):
                    part.seed = seed
            model = ReprogrammedModel(self.source, input, output, task.info).to(self.args.device)
            natural = data.startswith("cifar")
            augment = Affine(8.0 if natural else 12.0, flip=0.5 if natural else 0.0)
            adam = Backpropagation(learning_rate=row.rate)
            fit(model, task.train, Training(epochs, 32, adam, augment, precision="float32"), seed)
            return model.predict_proba(task.test), task.test.labels

        self.cell(data, shots, seed, row.group, row.name, run, setting=f"{side} px, {epochs} epochs, Adam {row.rate}")


def part(args: argparse.Namespace, piece: tuple[str, str, int, int, int]) -> None:
    """One part of the table in a process of its own, with cached answers of its own: two may not write one file."""
    torch.set_num_threads(1)
    what, data, shots, seed, _ = piece
    Benchmark(args, f"answers_{data}_{shots}_{seed}" if what == "cached" else "answers").piece(*piece)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="folder with train/CLASS/*.jpg and test/CLASS/*.jpg")
    parser.add_argument("--shots", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--prompt-seeds", type=int, default=5, help="of trained prompts")
    parser.add_argument("--device", default="cpu", help="of trained prompts: cpu or cuda; they are in float32 on either")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--side", type=int, default=96, help="source resolution of trained prompts")
    parser.add_argument("--epochs", type=int, default=15, help="of trained prompts")
    parser.add_argument("--test", type=int, default=300, help="test examples a dataset, at most")
    parser.add_argument("--cache", default="outputs/few_label_vision")
    parser.add_argument("--only", choices=["all", "cached", "prompts", "table"], default="all")
    parser.add_argument("--table", default="docs/results/few_label_vision.md")
    args = parser.parse_args()
    torch.manual_seed(0)
    benchmark = Benchmark(args)
    if args.only != "table":
        if args.jobs > 1:
            for _ in side_by_side(partial(part, args), list(benchmark.pieces()), args.jobs):
                pass
        else:
            benchmark.run()
    print(json.dumps(write_table(benchmark.cells_file, Path(args.table), args)))


if __name__ == "__main__":
    main()
