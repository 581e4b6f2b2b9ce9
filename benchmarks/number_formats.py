"""Training in float32 and in bfloat16 on a CPU: seconds of a gradient step, and accuracy of the program.

    OMP_NUM_THREADS=1 python benchmarks/number_formats.py [--page docs/results/number_formats.md]

A step reads images through EfficientNet-Lite0, forward and back to their pixels, as the training loop does; both formats take
turns, so that a drifting machine hits both. Accuracy is that of a trained frame with iterative label mapping, which is measured
in float32 either way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from common import machine, versions, write_page
from torch.nn import functional as F
from training_epoch import run_ours

from reprogram.full_precision import full_precision
from reprogram.malloc_tuning import keep_freed_memory
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.digits import digits
from reprogram.training.precision import has_fast_bfloat16

CPU = torch.device("cpu")
Timed = list[tuple[int, int, dict[str, float]]]  # side, images, seconds of each format
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def steps(side: int, images: int, repeats: int) -> dict[str, float]:
    """Median CPU seconds of a gradient step in each format; the first of each warms up."""
    source, seconds = EfficientNetLite(), {name: [] for name in FORMATS}
    pixels = torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(images)
    for _ in range(repeats + 1):
        for name, number_format in FORMATS.items():
            prompt = torch.zeros(3, side, side, requires_grad=True)
            started = time.process_time()
            with full_precision(CPU), torch.autocast("cpu", number_format, enabled=name != "float32"):
                logits = source((pixels + prompt).clamp(0, 1), ()).logits
            F.cross_entropy(logits.float(), labels).backward()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def accuracies(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Test accuracy of each seed in each format."""
    found: dict[str, list[float]] = {name: [] for name in FORMATS}
    for seed in range(arguments.seeds):
        task = digits(shots=arguments.shots, seed=seed)
        task.test = task.test.subset(list(range(min(arguments.test, len(task.test)))))
        for name in FORMATS:
            run = run_ours(task, arguments.epochs, 32, seed, CPU, name, arguments.side)
            found[name].append(run["accuracy"])
            print(f"seed {seed}, {name}: {run['accuracy']:.3f}", flush=True)
    return found


def page(arguments: argparse.Namespace, timed: Timed, found: dict[str, list[float]]) -> str:
    """Markdown."""
    gaps = [b - a for a, b in zip(found["float32"], found["bfloat16"], strict=True)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
    faster = [seconds["float32"] / seconds["bfloat16"] for *_, seconds in timed]
    lines = [
        "**Leave `training.precision=auto`**, which is float32 on every CPU: figures must not depend on the processor.",
        f"bfloat16 is x {min(faster):.2f} to {max(faster):.2f} as fast here, and changes accuracy by "
        f"{statistics.mean(gaps):+.3f} ± {error:.3f}.",
        "",
        "Seconds of a gradient step, EfficientNet-Lite0, forward and back to the pixels:",
        f"CPU seconds, median of {arguments.repeats}.",
        f"{torch.get_num_threads()} thread(s) of {machine()}, bfloat16 in hardware: {'yes' if has_fast_bfloat16(CPU) else 'no'}.",
        "",
        "| images | side | float32 | bfloat16 | bfloat16 is faster |",
        "|---|---|---|---|---|",
    ]
    for side, images, seconds in timed:
        one, two = seconds["float32"], seconds["bfloat16"]
        lines.append(f"| {images} | {side} px | {one:.3f} | {two:.3f} | x {one / two:.2f} |")
    shown = {name: ", ".join(f"{value:.3f}" for value in values) for name, values in found.items()}
    lines += [
        "",
        "Strided depthwise convolutions run in float32 in both columns: their gradient has no fast kernel in bfloat16.",
        "",
        f"Accuracy of a frame with `output=iterative` on digits, {arguments.shots} labels a class, {arguments.side} px,",
        f"{arguments.epochs} epochs, {arguments.test} test images, by seed:",
        "",
        "| float32 | bfloat16 | difference |",
        "|---|---|---|",
        f"| {shown['float32']} | {shown['bfloat16']} | {statistics.mean(gaps):+.3f} ± {error:.3f} |",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", nargs="+", default=["96x20", "224x8"], help="SIDExIMAGES of a timed step")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--side", type=int, default=64, help="px, of the runs for accuracy")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--page", type=Path, help="write the page here (docs/results/number_formats.md)")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    sizes = [tuple(map(int, step.split("x"))) for step in arguments.steps]
    timed = [(side, images, steps(side, images, arguments.repeats)) for side, images in sizes]
    found = accuracies(arguments)
    text = page(arguments, timed, found)
    print(text)
    if arguments.page:
        write_page(arguments.page, "Training in float32 and in bfloat16 on a CPU", "python benchmarks/number_formats.py", text)
    figures: dict[str, Any] = {"steps": [[*size, seconds] for *size, seconds in timed], "accuracy": found}
    print(json.dumps(figures | {"seeds": list(range(arguments.seeds)), "versions": versions("torch")}))


if __name__ == "__main__":
    main()
