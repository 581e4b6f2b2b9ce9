"""What a GPU is worth, and whether it says the same: every measurement on the GPU and on the CPU of one machine.

    python benchmarks/gpu.py --seeds 0 1 --page docs/results/gpu.md

Needs a GPU. Every finished cell is kept in ``--cells``; start the same command again to go on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import append_line, read_lines, versions, write_page
from robustness_speed import EPS, STEP, STEPS, network, plain_loop, taught
from training_epoch import Published, run_ours, run_published

from reprogram import ReprogrammedClassifier, from_pretrained, load_source, save_pretrained
from reprogram.full_precision import full_precision
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.certification.randomized_smoothing import Smoothing
from reprogram.robustness.estimates.clever import CleverScore
from reprogram.targets.mnist import mnist
from reprogram.threat import Threat

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results" / "gpu.md"
PROMPT = ["input=pad", "output=iterative", "training.epochs=10"]
JOBS = {
    "the default job": [],
    "a trained prompt, float32": [*PROMPT, "training.precision=float32"],
    "a trained prompt, `training.precision=auto`": PROMPT,
    "blood-brain barrier from SMILES": ["experiment=bbb_few_label"],
    "the default job with `robustness=quick`": ["robustness=quick"],
}
LOOPS = {"published": "published, autocast", "float32": "ours, float32", "bfloat16": "ours, bfloat16, its first run in a process"}
GPU, CPU = torch.device("cuda"), torch.device("cpu")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", type=Path, default=Path("outputs/benchmarks/gpu.jsonl"))
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--only-parts", action="store_true", help="no whole commands")
    parser.add_argument("--table-only", action="store_true", help="run nothing, write the page from finished cells")
    return parser.parse_args()


def wall(call: Callable[[], Any], repeats: int) -> float:
    """Median wall seconds after a warm-up, with the GPU's queue emptied before and after."""
    call()
    spent = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def job(words: list[str], seed: int, repeats: int) -> dict[str, Any]:
    """One command on both devices: seconds with the start of Python, score, memory."""
    del repeats
    found: dict[str, Any] = {}
    for device in ("cuda", "cpu"):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(ROOT / "train.py"), f"device={device}", f"seed={seed}"]
            command += [f"run_dir={folder}/run"]
            start = time.perf_counter()
            subprocess.run([*command, *words], check=True, capture_output=True)
            seconds = time.perf_counter() - start
            result = json.loads((Path(folder) / "run" / "result.json").read_text())
        name, score = next(iter(result["metrics"].items()))
        found[device] = {"seconds": seconds, "metric": name, "score": score["value"], "cost": result["cost"]}
    return found


def same_answers(seed: int, repeats: int) -> dict[str, Any]:
    """A program over several layers that was made on the CPU, asked on both devices; and images a second."""
    task = mnist(shots=16, seed=seed, test_size=1000)
    images = [task.train.batch(range(len(task.train))), task.test.batch(range(len(task.test)))]
    arrays = [(x.permute(0, 2, 3, 1).numpy() * 255).round().astype("uint8")[..., 0] for x in images]
    with tempfile.TemporaryDirectory() as folder:
        chosen = ReprogrammedClassifier(output="ridge_taps", random_state=seed).fit(arrays[0], task.train.labels)
        save_pretrained(chosen.model_, folder)
        answers, rates = {}, {}
        for device in (CPU, GPU):
            model = from_pretrained(folder).to(device)

            def read(model: Any = model) -> torch.Tensor:
                with torch.no_grad(), full_precision(model.device):
                    parts = [model(images[1][i : i + 128].to(model.device)) for i in range(0, len(images[1]), 128)]
                return torch.cat(parts).cpu()

            answers[device.type] = read().double()
            rates[device.type] = len(images[1]) / wall(read, repeats if device == GPU else 1)
    apart = (answers["cuda"].softmax(1) - answers["cpu"].softmax(1)).abs().max()
    same = (answers["cuda"].argmax(1) == answers["cpu"].argmax(1)).float().mean()
    return {"largest_difference": float(apart), "same_class": float(same), "images_a_second": rates, "n": len(images[1])}


def reading(seed: int, repeats: int) -> dict[str, Any]:
    """Images a second through the frozen network: a bare loop over the network, and the source."""
    source = load_source("efficientnet_lite0").to(GPU)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(512, 3, 224, 224, generator=generator).to(GPU)
    bare_network = Published(GPU).net

    @torch.no_grad()
    def bare() -> None:
        for i in range(0, len(images), 64):
            bare_network((images[i : i + 64] * 255 - 127) / 128)

    @torch.no_grad()
    def ours() -> None:
        for i in range(0, len(images), 64):
            source(images[i : i + 64])

    return {"bare": len(images) / wall(bare, repeats), "source": len(images) / wall(ours, repeats)}


def epoch(seed: int, repeats: int) -> dict[str, Any]:
    """The published training loop (autocast, as published) and ours, ten epochs, on the GPU."""
    del repeats
    task = mnist(shots=16, seed=seed, test_size=1000)
    run_published(task, 1, 32, seed, GPU)
    run_ours(task, 1, 32, seed, GPU, "float32")
    return {
        "published": run_published(task, 10, 32, seed, GPU),
        **{kind: run_ours(task, 10, 32, seed, GPU, kind) for kind in ("float32", "bfloat16")},
    }


def attacks(seed: int, repeats: int) -> dict[str, Any]:
    """PGD-20 on 64 images, CLEVER of one image, certifying one image: wall seconds on the GPU."""
    model, images, labels = taught(network(64))
    model, images, labels = model.to(GPU), images.to(GPU), labels.to(GPU)
    torch.manual_seed(seed)
    found: dict[str, Any] = {}
    for name, eps in (("8/255", EPS), ("0.1/255", 0.1 / 255)):
        ours = PGD(Threat("linf", eps), steps=STEPS, step_size=STEP)
        found[f"PGD-20 at {name}"] = {
            "this": wall(partial(ours, model, images, labels), repeats),
            "plain loop": wall(partial(plain_loop, model, images, labels, eps), repeats),
        }
    score = CleverScore("l2", batches=50, samples=32, pool=10, radius=2.0)
    found["CLEVER of one image"] = {"this": wall(lambda: score(model, images[:1], labels[:1]), repeats)} | art_clever(
        model, images[0], repeats
    )
    batch = images[:1].expand(256, -1, -1, -1).contiguous()
    certifier = Smoothing(sigma=0.25, draws=1, samples=10_000)

    @torch.no_grad()
    def forward() -> None:
        for _ in range(-(-10_000 // 256)):
            model(batch)

    found["certifying one image, 10,000 samples"] = {
        "this": wall(lambda: certifier.certify(model, images[0]), repeats),
        "forward passes alone": wall(forward, repeats),
    }
    return found


def art_clever(model: torch.nn.Module, image: torch.Tensor, repeats: int) -> dict[str, float]:
    """The same samples with ART, where it is installed."""
    if not find_spec("art"):
        return {}
    from art.estimators.classification import PyTorchClassifier
    from art.metrics import clever_u

    art = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0.0, 1.0), device_type="gpu"
    )
    x = image.cpu().numpy()
    return {"ART": wall(lambda: clever_u(art, x, 50, 32, radius=2.0, norm=2, pool_factor=10, verbose=False), min(repeats, 2))}


def measurements(seeds: list[int], only_parts: bool) -> dict[tuple[str, int], Callable[[int], dict[str, Any]]]:
    """(name, seed) -> what makes the cell, given the repeats; the parts first."""
    found: dict[tuple[str, int], Callable[[int], dict[str, Any]]] = {}
    for seed in seeds:
        for name, call in (("epoch", epoch), ("attacks", attacks), ("reading", reading), ("answers", same_answers)):
            found[name, seed] = partial(call, seed)
    for seed in [] if only_parts else seeds:
        for name, words in JOBS.items():
            found[name, seed] = partial(job, words, seed)
    return found


def jobs_table(cells: dict[str, list[dict[str, Any]]]) -> list[str]:
    columns = ("command", "CPU, s", "GPU, s", "CPU / GPU", "score on CPU", "score on GPU", "GPU memory, MB", "seeds")
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name in JOBS:
        rows = cells.get(name, [])
        if not rows:
            continue
        mean = {d: statistics.mean(row[d]["seconds"] for row in rows) for d in ("cpu", "cuda")}
        score = {d: ", ".join(f"{row[d]['score']:.3f}" for row in rows) for d in ("cpu", "cuda")}
        memory = max(row["cuda"]["cost"]["peak_memory_mb"] for row in rows)
        lines.append(
            f"| {name} | {mean['cpu']:.0f} | {mean['cuda']:.0f} | {mean['cpu'] / mean['cuda']:.1f} | {score['cpu']} | "
            f"{score['cuda']} | {memory:,.0f} | {', '.join(str(row['seed']) for row in rows)} |"
        )
    return lines if len(lines) > 2 else []


def page(cells: list[dict[str, Any]]) -> str:
    """The whole page; parts without cells are left out."""
    by: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        by.setdefault(cell["name"], []).append(cell["figures"] | {"seed": cell["seed"]})
    where = cells[0]["machine"]
    text = [
        f"One machine: {where['gpu']}, {where['threads']} CPU thread{'s' * (where['threads'] > 1)}, torch {where['torch']}, "
        f"Python {where['python']}. Wall seconds; a CPU column is the same machine without its GPU. Seeds: "
        f"{', '.join(map(str, sorted({cell['seed'] for cell in cells})))}.",
        "",
    ]
    if jobs := jobs_table(by):
        text += ["## Whole commands", "", "With the start of Python.", "", *jobs, ""]
    if rows := by.get("answers"):
        apart, same = max(row["largest_difference"] for row in rows), min(row["same_class"] for row in rows)
        rate = {d: statistics.mean(row["images_a_second"][d] for row in rows) for d in ("cpu", "cuda")}
        text += [
            "## The same program on both", "",
            f"A program over several layers, made on the CPU, answers {rows[0]['n']:,} MNIST images: probabilities differ by "
            f"at most {apart:.1e}, {same:.1%} of the classes are the same; {rate['cpu']:,.0f} images a second on "
            f"the CPU, {rate['cuda']:,.0f} on the GPU.", "",
        ]  # fmt: skip
    if rows := by.get("epoch"):
        text += ["## Training a prompt, ten epochs", ""]
        text += ["| loop | seconds | published / this | test accuracy |", "|---|---|---|---|"]
        for kind, words in LOOPS.items():
            seconds = statistics.mean(row[kind]["seconds"] for row in rows)
            ratio = statistics.mean(row["published"]["seconds"] / row[kind]["seconds"] for row in rows)
            accuracy = ", ".join(f"{row[kind]['accuracy']:.3f}" for row in rows)
            text.append(f"| {words} | {seconds:.1f} | {ratio:.2f} | {accuracy} |")
        text.append("")
    if rows := by.get("attacks"):
        text += ["## Checks", "", "| what | implementation | seconds |", "|---|---|---|"]
        for what in rows[0]:
            if what != "seed":
                text += [
                    f"| {what} | {who} | {statistics.mean(row[what][who] for row in rows):.4f} |" for who in rows[0][what]
                ]
        text.append("")
    if rows := by.get("reading"):
        rate = {who: statistics.mean(row[who] for row in rows) for who in ("bare", "source")}
        text += [
            "## Reading", "",
            f"EfficientNet-Lite0 at 224 px in batches of 64, float32: {rate['bare']:,.0f} images a second in a bare loop "
            f"over the network, {rate['source']:,.0f} through the source with its layers "
            f"({rate['source'] / rate['bare']:.0%}).", "",
        ]  # fmt: skip
    return "\n".join(text)


def main() -> None:
    options = arguments()
    if not options.table_only:
        if not torch.cuda.is_available():
            raise SystemExit("This benchmark compares a GPU with the CPU, and torch sees no GPU here.")
        machine = {"gpu": torch.cuda.get_device_name(), "threads": torch.get_num_threads(), **versions("torch")}
        done = {(cell["name"], cell["seed"]) for cell in read_lines(options.cells)}
        for (name, seed), measure in measurements(options.seeds, options.only_parts).items():
            if (name, seed) not in done:
                cell = {"name": name, "seed": seed, "figures": measure(options.repeats), "machine": machine}
                append_line(options.cells, json.dumps(cell))
                print(json.dumps(cell), flush=True)
    text = page(read_lines(options.cells))
    write_page(options.page, "What a GPU is worth", "python benchmarks/gpu.py --seeds 0 1", text)
    print(text)


if __name__ == "__main__":
    main()
