"""A model behind a real server, reprogrammed with queries alone: accuracy against queries, and the client's throughput.

    pip install 'reprogram[all,serving]'
    python benchmarks/black_box.py --cifar PATH/cifar10-small

MLServer serves EfficientNet-Lite0 in its own process over the Open Inference Protocol v2. Every row is a program found
within a budget of training queries; test queries are counted apart. Finished cells are kept in ``--cells`` and are not
run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _black_box_curves import curves
from _black_box_table import INNER, table
from _service import Service
from _throughput import measure_throughput

import reprogram
from reprogram.hooks import Run
from reprogram.inputs.coarse import Coarse
from reprogram.inputs.full import Full
from reprogram.inputs.none import NoPrompt
from reprogram.inputs.views import Views
from reprogram.interfaces import InputTransformation, OutputMapping, SourceModel, SourceOutput, SourceSpec, TargetTask
from reprogram.ledger import EVALUATION, Budget
from reprogram.model import ReprogrammedModel
from reprogram.outputs.frequency import FrequencyMapping
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.outputs.top_k import TopK
from reprogram.result import Result, finite
from reprogram.sources.black_box import BlackBoxSource
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.sources.remote import RemoteSource
from reprogram.targets.digits import digits
from reprogram.targets.image_folder import image_folder
from reprogram.targets.mnist import mnist
from reprogram.training._zeroth_order import ZerothOrder
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.cma_es import CmaEs
from reprogram.training.distilled_surrogate import DistilledSurrogate
from reprogram.training.hold_out_selection import HELD_OUT
from reprogram.training.loop import Training
from reprogram.training.rgf import RandomGradientFree
from reprogram.training.spsa_gc import SpsaGc

SIDE, GRID = 64, 8  # the prompt of every searched row: GRID·GRID·3 values, scaled up to SIDE pixels
BATCH = 16  # training images a zeroth-order step
STRATEGIES: dict[str, tuple[Callable[[], ZerothOrder], int]] = {  # and candidates a step
    "rgf": (lambda: RandomGradientFree(directions=10, smoothing=1.0, learning_rate=0.02), 11),
    "spsa_gc": (lambda: SpsaGc(pairs=5, first_move=0.003, probe=0.08), 10),
    "cma_es": (lambda: CmaEs(subspace=32, population=11, std=0.06), 11),
}


class LogitsOnly(SourceModel):
    """A source with its gradients but without its inner layers: the most that a service's answers could be worth."""

    def __init__(self, source: SourceModel) -> None:
        super().__init__()
        self.inner, self.name = source, source.name
        self.spec = SourceSpec("image", source.spec.size, source.labels)
        self.freeze()

    def answer(self, source_input: Any, taps: Sequence[Any] = ()) -> SourceOutput:
        return SourceOutput(self.inner(source_input).logits)


def few_views(target: str) -> Views:
    """Six views at most: 960 queries for 160 training images. Drawings are inverted, photographs are scaled."""
    return Views((64, 96, 128, 160, 224)) if target == "cifar10" else Views((64, 96, 128), invert=True)


def many_views(target: str) -> Views:
    """Up to 12 views: 1,920 queries for 160 training images."""
    if target == "cifar10":
        return Views((64, 96, 128, 160, 224), flip=True)
    return Views((64, 80, 96, 112, 128, 160), invert=True)


def load(target: str, seed: int, arguments: argparse.Namespace) -> TargetTask:
    """The task with at most ``--test`` test images, the same ones for every seed."""
    if target == "cifar10":
        task = image_folder(str(arguments.cifar), shots=arguments.shots, seed=seed)
    else:
        task = {"digits": digits, "mnist": mnist}[target](shots=arguments.shots, seed=seed)
    rows = np.random.default_rng(0).permutation(len(task.test))[: arguments.test]
    task.test = task.test.subset(rows)
    return task


class Bench:
    """Runs cells and keeps their rows."""

    def __init__(self, arguments: argparse.Namespace, url: str) -> None:
        self.arguments, self.url = arguments, url
        self.folder = Path(arguments.cells)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lines = self.folder.read_text().splitlines() if self.folder.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def cell(self, target: str, seed: int, method: str, budget: int, work: Callable[[], dict[str, Any]]) -> None:
        key = {"target": target, "seed": seed, "method": method, "budget": budget}
        if any(key.items() <= row.items() for row in self.rows):
            return
        started, cpu = time.perf_counter(), time.process_time()
        row = key | work() | {"seconds": time.perf_counter() - started, "client_cpu": time.process_time() - cpu}
        self.rows.append(row)
        with self.folder.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{target} seed {seed} {method} {budget}: {row['accuracy']:.3f}, {row['queries']} queries", flush=True)

    def service(self, cache: Path, budget: int) -> RemoteSource:
        return RemoteSource(
            self.url,
            "efficientnet_lite0",
            "imagenet",
            budget=Budget(queries=budget),
            cache=cache,
            batch=32,
            workers=2,
            timeout=120,
        )

    def asked(
        self,
        task: TargetTask,
        input: InputTransformation,
        output: OutputMapping,
        budget: int,
        training: Training | None = None,
        cache: Path | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        """A program found with at most ``budget`` queries, and its test accuracy."""
        with tempfile.TemporaryDirectory() as folder:
            source = self.service(cache or Path(folder) / "answers", budget)
            row = measured(source, task, input, output, training, seed, Path(folder))
        bill = source.ledger.bill()
        return row | {"queries": bill["by_kind"].get("training", 0), "bill": bill}


def measured(
    source: SourceModel,
    task: TargetTask,
    input: InputTransformation,
    output: OutputMapping,
    training: Training | None,
    seed: int,
    folder: Path,
) -> dict[str, Any]:
    model = ReprogrammedModel(source, input, output, task.info)
    history = (training or Training(0)).fit(model, task.train, Run(folder, seed, Result("reprogram", seed)))
    asked = getattr(getattr(model.source, "ledger", None), "asked", 0)
    with model.source.counted_as(EVALUATION):
        predictions = model.predict(task.test)
    return {
        "accuracy": float((predictions == task.test.labels).mean()),
        "test": len(task.test),
        "trained": input.trainable(),
        "queries": 0,
        "distinct": asked,
        "search": history.search,
        "loss": [row["loss"] for row in history.epochs][-1:],
        "ended": history.ended,
    }


def closed_forms(bench: Bench, target: str, seed: int, task: TargetTask) -> None:
    """Programs without a search: one query a training image and view. Their answers are shared between rows."""
    cache = Path(bench.arguments.work) / target
    for method, budget, input, output in (
        ("mapping_only (frequency)", 1000, NoPrompt(128), FrequencyMapping()),
        ("top_k, 1 view", 1000, NoPrompt(128), TopK()),
        ("top_k, views", 1000, few_views(target), TopK()),
        ("linear on log-probabilities, 1 view", 1000, NoPrompt(128), RidgeTaps()),
        ("linear on log-probabilities, views", 1000, few_views(target), RidgeTaps()),
        ("linear on log-probabilities, views", 10000, many_views(target), RidgeTaps()),
    ):
        bench.cell(target, seed, method, budget, partial(_alone, bench, task, input, output, budget, cache))


def _alone(bench: Bench, task: TargetTask, input: Any, output: Any, budget: int, cache: Path) -> dict[str, Any]:
    """Rows that share a cache are billed as if each were alone: all their questions are distinct."""
    row = bench.asked(task, input, output, budget, cache=cache)
    return row | {"queries": row["distinct"]}


def searches(bench: Bench, target: str, seed: int, task: TargetTask, budget: int) -> None:
    """Zeroth-order rows: the same prompt for all, from the one-view map as a start."""
    for name, (make, candidates) in STRATEGIES.items():
        training = Training(epochs_for(budget - len(task.train), len(task.train), candidates), BATCH, make())
        work = partial(bench.asked, task, Coarse(SIDE, GRID), TopK(), budget, training, seed=seed)
        bench.cell(target, seed, name, budget, work)


def epochs_for(budget: int, images: int, candidates: int) -> int:
    """Epochs that the budget ends: each asks the searched images for every candidate, and all of them to judge it."""
    return max(1, -(-budget // int(images * (candidates * (1 - HELD_OUT) + 1))))


def start_of_search(bench: Bench, target: str, seed: int, task: TargetTask) -> None:
    """Where every search starts: the same program with its prompt at zero."""
    bench.cell(target, seed, "start of every search", 1000, lambda: bench.asked(task, Coarse(SIDE, GRID), TopK(), 1000))


def stand_ins(bench: Bench, target: str, seed: int, task: TargetTask) -> None:
    local = EfficientNetLite("efficientnet_lite1")
    for serve in ("copy", "service"):
        training = DistilledSurrogate(20, 32, local=local, serve=serve)
        work = partial(bench.asked, task, Coarse(SIDE, GRID), TopK(), 1000, training, seed=seed)
        bench.cell(target, seed, f"local stand-in, {serve} predicts", 1000, work)


def polished_stand_ins(bench: Bench, target: str, seed: int, task: TargetTask) -> None:
    """The copy's program carried over to the service, then searched with what is left of the budget."""
    make, candidates = STRATEGIES["rgf"]
    training = DistilledSurrogate(
        20,
        32,
        local=EfficientNetLite("efficientnet_lite1"),
        polish=make(),
        polish_epochs=epochs_for(10000 - 2 * len(task.train), len(task.train), candidates),
        polish_batch_size=BATCH,
    )
    work = partial(bench.asked, task, Coarse(SIDE, GRID), TopK(), 10000, training, seed=seed)
    bench.cell(target, seed, "local stand-in, polished by rgf", 10000, work)


def white_box(bench: Bench, target: str, seed: int, task: TargetTask) -> None:
    """Closed forms on what the service hides: the same model in this process, its logits and its inner layers."""
    whole = EfficientNetLite()
    kept = Path(bench.arguments.work) / f"{target}_logits"
    logits = BlackBoxSource(whole, answers="logits", cache=kept)  # test images are read once for all seeds
    _unpaid(bench, task, target, seed, "white box, linear on logits, views", logits, many_views(target), RidgeTaps())
    _unpaid(bench, task, target, seed, INNER, whole, Views((96, 128, 160)), RidgeTaps())


def white_box_prompts(bench: Bench, target: str, seed: int, task: TargetTask) -> None:
    """Prompts trained with the source's gradients, read from its logits alone."""
    logits = LogitsOnly(EfficientNetLite())
    gentle = Backpropagation(learning_rate=0.003)
    for method, input, output, training in (
        ("white box, the searched prompt, top_k", Coarse(SIDE, GRID), TopK(), Training(20, 32)),
        ("white box, full prompt 96 px, top_k", Full(96), TopK(), Training(20, 32, gentle)),
        ("white box, full prompt 96 px, linear on logits", Full(96), RidgeTaps(), Training(20, 32, gentle)),
    ):
        _unpaid(bench, task, target, seed, method, logits, input, output, training)


def _unpaid(
    bench: Bench,
    task: TargetTask,
    target: str,
    seed: int,
    method: str,
    source: SourceModel,
    input: InputTransformation,
    output: OutputMapping,
    training: Training | None = None,
) -> None:
    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            return measured(source, task, input, output, training, seed, Path(folder)) | {"queries": 0}

    bench.cell(target, seed, method, 0, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--targets", nargs="+", default=["digits", "mnist", "cifar10"])
    parser.add_argument("--cifar", type=Path, help="folder with train/ and test/ of small CIFAR-10")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, "searches", "throughput"])
    parser.add_argument("--budgets", type=int, nargs="+", default=[1000, 10000, 50000], help="of the searches")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--test", type=int, default=500, help="test images")
    parser.add_argument("--mlserver", default="mlserver", help="MLServer's executable")
    parser.add_argument("--cells", default="outputs/black_box/cells.jsonl", help="finished cells, to go on from")
    parser.add_argument("--work", default="outputs/black_box/answers", help="folder for cached answers")
    parser.add_argument("--table", type=Path, help="write the table here (docs/results/black_box.md)")
    parser.add_argument("--only-table", action="store_true", help="no server: the table from finished cells")
    parser.set_defaults(parts=["closed_forms", "throughput", "white_box", "searches", "stand_ins", "white_box_prompts"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Stopped; start again to go on from the finished cells."))
    Path(arguments.cells).parent.mkdir(parents=True, exist_ok=True)
    if arguments.only_table:
        bench = Bench(arguments, "")
    elif set(arguments.parts) <= {"white_box", "white_box_prompts"}:
        run(bench := Bench(arguments, "no server is needed"))
    else:
        service = Service(arguments.mlserver, Path(arguments.cells).with_name("server.log"))
        with service as url:
            bench = Bench(arguments, url)
            run(bench)
    wanted = [(t, s, b) for b in arguments.budgets for t in arguments.targets for s in arguments.seeds]
    text, figures = table(bench.rows, arguments.shots, arguments.test, wanted)
    print(text)
    if arguments.table:
        arguments.table.parent.mkdir(parents=True, exist_ok=True)
        chart = arguments.table.with_suffix(".svg")
        if curves(bench.rows, chart):
            title, rest = text.split("\n", 1)
            text = f"{title}\n\n![Test accuracy against training queries]({chart.name})\n{rest}"
        arguments.table.write_text(text)
    versions = {"reprogram": reprogram.__version__, "torch": torch.__version__, "python": platform.python_version()}
    print(json.dumps(finite(figures | {"versions": versions})))


def run(bench: Bench) -> None:
    """Cheap and decisive rows first, so that a run that is cut short has said the most."""
    arguments = bench.arguments
    tasks = {(t, s): load(t, s, arguments) for s in arguments.seeds for t in arguments.targets}
    for part in arguments.parts:
        if part == "throughput":
            for repeat in arguments.seeds:
                bench.cell("throughput", repeat, "client", 0, partial(measure_throughput, bench.url))
            continue
        for (target, seed), task in tasks.items():
            if part == "searches":
                start_of_search(bench, target, seed, task)
                for budget in arguments.budgets:
                    searches(bench, target, seed, task, budget)
            else:
                PARTS[part](bench, target, seed, task)


PARTS = {
    "closed_forms": closed_forms,
    "white_box": white_box,
    "white_box_prompts": white_box_prompts,
    "stand_ins": stand_ins,
    "polished_stand_ins": polished_stand_ins,
}


if __name__ == "__main__":
    main()
