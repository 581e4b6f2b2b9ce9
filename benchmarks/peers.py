"""Published methods, built from their authors' own classes, beside ours: agreement, accuracy, causes, speed, memory.

    mkdir PEERS && cd PEERS && git clone https://github.com/OPTML-Group/ILM-VP ILM-VP   # the next one: --checkout says which
    python benchmarks/peers.py --checkout PEERS --cifar PATH/cifar10-small [--jobs 8] [--device cuda]

Each method runs around the same frozen EfficientNet-Lite0, on the same labels, with its script's optimisers, schedule, batch
and start; ours runs beside it with the same settings. Finished cells are kept in ``--cells`` and never computed again; the
page docs/results/peers.md is written from them. ``--parts speed`` belongs on CPU cores that nothing else uses.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _peer_agreement import agreement
from _peer_black_box import blackvip
from _peer_black_box import ours as ours_black_box
from _peer_code import REPOSITORIES, Checkout
from _peer_methods import LATE, Place
from _peer_page import page
from _peer_pairs import PAIRS
from _peer_runs import load, ours, paired_seconds, published
from _peer_steps import side_by_side
from common import append_line, processor, read_lines, write_page

from reprogram.errors import ReprogramError
from reprogram.malloc_tuning import keep_freed_memory

KEY = ("part", "method", "data", "seed", "who")
PARTS = ("agreement", "steps", "accuracy", "ladder", "late", "repeats", "black_box", "speed")
FRAMED = 128 / 224  # side of the image inside a frame; CIFAR's 32 pixels stay 32 in the published scripts


def cells(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every cell that is wanted, most telling first, so that a run that is cut short has said the most."""
    seeds, methods = arguments.seeds, [m for m in PAIRS if m in arguments.methods]
    if "agreement" in arguments.parts:
        yield {"part": "agreement", "method": "all", "data": "made up", "seed": 0, "who": "both"}
    if "steps" in arguments.parts:
        rows = [*((m, "alike") for m in methods), *(("AutoVP", "but fixed") for m in methods if m == "AutoVP")]
        data = f"{arguments.data[0]}, {arguments.ladder_side} px"
        yield from ({"part": "steps", "method": m, "data": data, "seed": s, "who": w} for s in seeds[:1] for m, w in rows)
    for data in arguments.data[:1] if "ladder" in arguments.parts else []:
        for method in methods:
            for seed in range(arguments.ladder_seeds):
                rungs = [*rungs_of(method, arguments.device), "ours"]
                yield from ({"part": "ladder", "method": method, "data": data, "seed": seed, "who": who} for who in rungs)
    for data in arguments.data:
        for part, wanted, who in (
            ("accuracy", methods, ("published", "ours")),
            ("black_box", ["BlackVIP"], ("published", "ours", "ours, published settings")),
        ):
            if part in arguments.parts:
                triples = [(m, s, w) for s in seeds for m in wanted for w in who]
                sized = f"{data}, {arguments.side} px"
                yield from ({"part": part, "method": m, "data": sized, "seed": s, "who": w} for m, s, w in triples)
    for side in arguments.late_sides if "late" in arguments.parts and "BLM" in methods else []:
        late = {"part": "late", "method": "BLM", "data": f"{arguments.data[0]}, {side} px"}
        yield from (late | {"seed": s, "who": w} for s in seeds for w in ("at once", "late"))
    if "repeats" in arguments.parts:
        sized = f"{arguments.data[0]}, {arguments.ladder_side} px"
        draws = [(m, d) for d in range(arguments.repeated) for m in methods if m in ("ILM-VP", "BLM")]
        yield from ({"part": "repeats", "method": m, "data": sized, "seed": d, "who": "published"} for m, d in draws)
    rows = [(f"{arguments.data[0]}, {side} px", m) for side in arguments.speed_sides for m in methods]
    for part, who in (("speed", "both"), ("memory", "published"), ("memory", "ours")) if "speed" in arguments.parts else ():
        yield from ({"part": part, "method": m, "data": data, "seed": 0, "who": who} for data, m in rows)


def rungs_of(method: str, device: str) -> list[str]:
    """The ladder's rungs: each turns one more choice of ours on. Float32 comes first, so that the rest is exact.

    On a CPU every step is in float32 already, and the ladder starts from our network and our order of images: rounding
    and lot, which the steps and the repeats are about.
    """
    causes = PAIRS[method].published.causes
    if device == "cpu":
        return ["+".join(causes[1 : i + 1]) for i in range(2, len(causes))]
    return ["published", *("+".join(causes[: i + 1]) for i in range(len(causes)))]


def place(cell: dict[str, Any], arguments: argparse.Namespace) -> Place:
    """Where a cell's method is built."""
    pair, device = PAIRS[cell["method"]], torch.device(arguments.device)
    side, epochs, inner = arguments.side, min(arguments.epochs or pair.epochs, pair.epochs), None
    if cell["part"] in ("ladder", "repeats"):
        side, epochs = arguments.ladder_side, min(arguments.ladder_epochs, epochs)
    elif cell["part"] == "late":
        side, epochs = int(cell["data"].split(", ")[1].split()[0]), min(arguments.ladder_epochs, epochs)
    elif cell["part"] in ("speed", "memory"):
        side, epochs, device = int(cell["data"].split(", ")[1].split()[0]), arguments.speed_epochs, torch.device("cpu")
    elif cell["data"].startswith("cifar10-small") and cell["method"] in ("ILM-VP", "BLM", "BLM+"):
        inner = round(side * 32 / 224)
    elif cell["part"] == "steps":
        side, epochs = arguments.ladder_side, pair.epochs  # of the schedule; fewer are run
    seed, switches = cell["seed"], set(cell["who"].split("+")) if cell["part"] == "ladder" else set()
    if cell["part"] == "repeats":
        seed, switches = 0, {"folded"}
    if cell["part"] == "late":
        switches = {"folded", LATE} if cell["who"] == "late" else {"folded"}
    inner = inner or 2 * round(side * FRAMED / 2)
    return Place(Checkout(Path(arguments.checkout)), side, inner, epochs, device, seed, frozenset(switches))


def compute(cell: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """One cell, in a process of its own."""
    keep_freed_memory()  # for both sides alike, as the command line does
    torch.set_num_threads(arguments.threads)
    part, who, device = cell["part"], cell["who"], torch.device(arguments.device)
    where = {"device": machine(device), "torch": torch.__version__}
    if part == "agreement":
        return cell | where | {"rows": agreement(Checkout(Path(arguments.checkout)), arguments.seeds)}
    draw = 0 if part == "repeats" else cell["seed"]
    task = load(cell["data"].split(", ")[0], draw, arguments.cifar, arguments.test)
    if part == "black_box":
        common = (task, arguments.side, device, cell["seed"], arguments.queries)
        code = Checkout(Path(arguments.checkout))
        found = blackvip(code, *common) if who == "published" else ours_black_box(*common, who)
        return cell | where | found
    pair, built = PAIRS[cell["method"]], place(cell, arguments)
    if part in ("speed", "memory"):
        where["device"] = machine(torch.device("cpu"))
        rows = [np.flatnonzero(task.train.labels == c)[: arguments.speed_shots] for c in np.unique(task.train.labels)]
        task.train = task.train.subset(np.concatenate(rows))
        where["images"] = len(task.train.labels)
    if part == "steps":
        found = side_by_side(pair, task, built, arguments.steps_epochs, who.removeprefix("but ") if who != "alike" else "")
    elif part == "repeats":
        found = published(pair, task, built, moved=cell["seed"])
    elif part == "speed":
        found = paired_seconds(pair, task, built, arguments.repeats)
    elif who == "ours":
        found = ours(pair, task, built, "float32" if part in ("ladder", "memory") else "auto")
    else:
        found = published(pair, task, built)
    return cell | where | found | {"epochs": built.epochs, "side": built.side, "test": len(task.test.labels)}


def machine(device: torch.device) -> str:
    """What computed: the GPU, or the processor and how many threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread(s)"


def run(arguments: argparse.Namespace) -> None:
    """All cells that are not there yet, ``--jobs`` at a time."""
    done = {tuple(cell[k] for k in KEY) for cell in read_lines(arguments.cells)}
    todo = [cell for cell in cells(arguments) if tuple(cell[k] for k in KEY) not in done]
    fresh = 1 if "speed" in arguments.parts else None  # memory is the peak of a process
    pool = ProcessPoolExecutor(arguments.jobs, get_context("spawn"), max_tasks_per_child=fresh)
    with pool:
        waiting = {pool.submit(compute, cell, arguments): cell for cell in todo}
        for finished in as_completed(waiting):
            cell = waiting[finished]
            if (error := finished.exception()) is not None:
                print(f"{cell}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            append_line(arguments.cells, json.dumps(finished.result()))
            shown = {k: v for k, v in finished.result().items() if k in (*KEY, "accuracy", "faster", "seconds")}
            print(" ".join(f"{k}={v}" for k, v in shown.items()), flush=True)


LADDER = ("steps_epochs", "late_sides", "ladder_seeds", "ladder_side", "ladder_epochs", "repeated")
SIZES = ("data", "seeds", *LADDER, "speed_sides", "speed_shots", "repeats", "side", "epochs")


def command(arguments: argparse.Namespace) -> str:
    """What to type for this page: the sizes that are not the default ones."""
    words = ["python benchmarks/peers.py --checkout PEERS --cifar PATH"]
    for name in SIZES:
        value, usual = getattr(arguments, name), parser().get_default(name)
        if value != usual:
            words.append(f"--{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, list) else value}")
    return " ".join(words)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", required=True, help=f"folder with checkouts named {', '.join(REPOSITORIES)}")
    parser.add_argument("--cifar", help="folder with train/CLASS/*.jpg and test/CLASS/*.jpg")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--methods", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--data", nargs="+", choices=["digits", "mnist", "cifar10-small"], default=["digits", "cifar10-small"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ladder-seeds", type=int, default=5)
    parser.add_argument("--ladder-side", type=int, default=96, help="source resolution of the ladder, px")
    parser.add_argument("--ladder-epochs", type=int, default=50, help="at most; at 50 both schedules drop at the same steps")
    parser.add_argument("--steps-epochs", type=int, default=8, help="in which both loops are compared number by number")
    parser.add_argument("--late-sides", type=int, nargs="+", default=[96, 64, 48], help="px, of BLM with a late mapping")
    parser.add_argument("--repeated", type=int, default=6, help="runs of one published loop (ILM-VP, BLM) from starts 1e-6 apart")
    parser.add_argument("--side", type=int, default=224, help="source resolution, px")
    parser.add_argument("--epochs", type=int, help="of every method, at most; without it as published")
    parser.add_argument("--queries", type=int, default=100_000, help="of a black-box search")
    parser.add_argument("--speed-sides", type=int, nargs="+", default=[224, 96])
    parser.add_argument("--speed-epochs", type=int, default=2)
    parser.add_argument("--speed-shots", type=int, default=16, help="images a class of a timed epoch")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of timings")
    parser.add_argument("--test", type=int, default=500, help="test images, at most")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    parser.add_argument("--jobs", type=int, default=1, help="processes; cells are shared between them")
    parser.add_argument("--cells", type=Path, default=Path("outputs/peers/cells.jsonl"))
    parser.add_argument("--page", type=Path, help="write the page here (docs/results/peers.md)")
    parser.add_argument("--only-page", action="store_true", help="no runs: the page from finished cells")
    return parser


def main() -> None:
    arguments = parser().parse_args()
    try:
        code = Checkout(Path(arguments.checkout))
        wanted = {PAIRS[m].repository for m in arguments.methods}
        for repository in REPOSITORIES if {"agreement", "black_box"} & {*arguments.parts} else wanted:
            code.check(repository)
        if "cifar10-small" in arguments.data and not arguments.cifar and not arguments.only_page:
            raise ReprogramError("--data cifar10-small needs its folder: give --cifar PATH, or --data digits.")
        if not arguments.only_page:
            run(arguments)
    except ReprogramError as error:
        sys.exit(str(error))
    text, figures = page(read_lines(arguments.cells))
    print(text)
    if arguments.page:
        write_page(arguments.page, "Beside the published code", command(arguments), text)
    print(json.dumps(figures | {"versions": {"torch": torch.__version__, "python": platform.python_version()}}))


if __name__ == "__main__":
    main()
