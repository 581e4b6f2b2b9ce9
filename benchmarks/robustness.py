"""Clean, robust, certified and inherited accuracy of programs on one naturally trained source.

    python benchmarks/robustness.py --images PATH_TO_cifar10-small --cells cells.jsonl --table docs/results/robustness.md

Rows: the source on its own answers, a linear probe, a prompt with a linear output trained plainly, and the same
strengthened by PGD training, TRADES and Gaussian noise. Finished cells are kept in ``--cells`` and not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from common import read_lines, versions, write_page
from torch import Tensor, nn

from reprogram.evaluation.metrics import wilson
from reprogram.frozen import still
from reprogram.inputs.full import Full
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.linear_features import LinearFeatures
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.ensemble import AttackEnsemble
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.certification.randomized_smoothing import Smoothing
from reprogram.robustness.checks.inheritance import BareSource, ProbedSource
from reprogram.robustness.evaluated_model import gather
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets.image_folder import image_folder
from reprogram.targets.mnist import mnist
from reprogram.threat import Threat
from reprogram.training import adversarial
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit

ROWS = ("source", "linear probe", "program", "program, PGD", "program, TRADES", "program, Gaussian noise")
RADIUS, SIGMA = 0.25, 0.25  # of the certificates, l2


def targets(images: Path | None, shots: int, seed: int) -> dict[str, TargetTask]:
    found = {"mnist": mnist(shots=shots, seed=seed)}
    if images is not None:
        found["cifar10-small"] = image_folder(str(images), shots=shots, seed=seed)
    return found


def strengthening(row: str, eps: float, steps: int, seed: int) -> Any:
    return {
        "program": None,
        "program, PGD": adversarial.PGDTraining(seed=seed, eps=eps, steps=steps),
        "program, TRADES": adversarial.TRADES(seed=seed, eps=eps, steps=steps),
        "program, Gaussian noise": adversarial.GaussianTraining(seed=seed, sigma=SIGMA),
    }[row]


def model_of(row: str, target: TargetTask, arguments: argparse.Namespace) -> nn.Module:
    source = EfficientNetLite()
    bare = BareSource(source, arguments.side)
    if row == "source":
        return bare
    if row == "linear probe":
        return ProbedSource(bare, *gather(target.train, None), len(target.info.classes))
    model = ReprogrammedModel(source, Full(size=arguments.side), LinearFeatures(), target.info)
    training = Training(
        epochs=arguments.epochs,
        optimiser=Backpropagation(learning_rate=0.01),
        adversarial=strengthening(row, arguments.eps, 3, arguments.seed),
    )
    fit(model, target.train, training, arguments.seed)
    return model.eval()


def cell(name: str, row: str, target: TargetTask, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row on one target. The source has no labels of its own here: its answers to the clean images take their place."""
    start = time.process_time()
    model = model_of(row, target, arguments)
    images, labels = gather(target.test, arguments.test, seed=arguments.seed)
    with still(model):
        with torch.no_grad():
            answers = torch.cat([model(part).argmax(1) for part in images.split(64)])
        labels = answers if row == "source" else labels
        robust = {}
        for size, threat in threats(arguments.eps).items():
            attack = AttackEnsemble([PGD(threat, steps=10), APGD(threat, steps=15, loss="dlr")])
            found = attack(model, images, labels)
            robust[size] = wilson(int((~found.broken).sum()), len(images))
        certified = smoothed(model, images, labels, arguments)
    return {
        "target": name, "row": row, "seed": arguments.seed, "n": len(images), "train_labels": len(target.train),
        "clean": wilson(int((answers == labels).sum()), len(images)), "robust": robust, "certified": certified,
        "cpu_seconds": time.process_time() - start, "settings": settings(arguments),
    }  # fmt: skip


def threats(eps: float) -> dict[str, Threat]:
    """The usual size, an eighth of it, where a naturally trained source keeps something to inherit, and l2."""
    return {"small": Threat("linf", eps / 8), "linf": Threat("linf", eps), "l2": Threat("l2", 0.5)}


def smoothed(model: nn.Module, images: Tensor, labels: Tensor, arguments: argparse.Namespace) -> dict[str, Any]:
    certifier = Smoothing(SIGMA, samples=arguments.samples, first_order=False, seed=arguments.seed)
    found = [certifier.certify(model, images[i], i) for i in range(min(arguments.certify, len(images)))]
    right = [f.label == int(y) and f.cohen >= RADIUS for f, y in zip(found, labels, strict=False)]
    return wilson(sum(right), len(right)) | {"n": len(right), "abstained": sum(f.label < 0 for f in found)}


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {k: v for k, v in vars(arguments).items() if k not in ("images", "cells", "table", "table_only")}


def page(cells: list[dict[str, Any]], about: dict[str, Any]) -> str:
    lines = [
        f"EfficientNet-Lite0, trained on ImageNet in the ordinary way and frozen, read at {about['side']} px; "
        f"{about['shots']} labels a class; a prompt over the whole image with a linear layer on the features, "
        f"{about['epochs']} epochs. {about['test']} test images, share in %, 95% interval.",
        "",
        f"*Robust*: left by PGD-10 and APGD-DLR-15 together, an upper bound. *Certified*: randomized smoothing at sigma "
        f"{SIGMA}, l2 radius {RADIUS}, {about['samples']:,} samples, confidence 99.9% each, {about['certify']} images; it "
        "belongs to the classifier that votes over noise. *Inherited*: robust / clean of the row over that of the source, "
        "whose right answers are its own answers to the clean images.",
        "",
    ]
    for name in dict.fromkeys(c["target"] for c in cells):
        here = {c["row"]: c for c in cells if c["target"] == name}
        source = kept(here["source"]) if "source" in here else None
        small, large = (f"{eps * 255:.3g}/255" for eps in (about["eps"] / 8, about["eps"]))
        head = f"| model | clean | robust, linf {small} | robust, linf {large} | robust, l2 0.5 "
        head += f"| certified, l2 {RADIUS} | inherited, linf {small} |"
        lines += [f"## {name}", "", head, "|---|---|---|---|---|---|---|"]
        for row in (r for r in ROWS if r in here):
            c = here[row]
            inherited = f"{kept(c) / source:.2f}" if source and row != "source" else "–"
            shown = [
                percent(c["clean"]),
                *(percent(c["robust"][size]) for size in ("small", "linf", "l2")),
                percent(c["certified"]),
            ]
            lines.append(f"| {row} | " + " | ".join(shown) + f" | {inherited} |")
        missing = [row for row in ROWS if row not in here]
        lines += ["", *reading(here), ""]
        if missing:
            lines += [f"Not measured: {', '.join(missing)}.", ""]
    return "\n".join(lines)


def reading(here: dict[str, dict[str, Any]]) -> list[str]:
    """What the table says about strengthening, in words, from its numbers."""
    if "source" in here and kept(here["source"]) == 0:
        fragile = (
            "The source keeps none of its own answers under the attack, so there is nothing to inherit and no ratio."
        )
        return [fragile, *reading({k: c for k, c in here.items() if k != "source"})]
    if not {"program", "program, PGD"} <= here.keys():
        return []
    weak, strong = (here[row] for row in ("program", "program, PGD"))
    robust, clean = (
        [c["robust"]["small"]["value"] for c in (weak, strong)],
        [c["clean"]["value"] for c in (weak, strong)],
    )
    said = [
        f"PGD training moves robust accuracy at the small size from {robust[0]:.1%} to {robust[1]:.1%} and clean accuracy from "
        f"{clean[0]:.1%} to {clean[1]:.1%}: the source stays as it was trained, and the program alone can only do so much."
    ]
    if voted := [row for row, c in here.items() if (c["certified"]["value"] or 0) > c["clean"]["value"]]:
        said.append(
            f"Certified above clean ({'; '.join(voted)}): under noise the vote is another classifier than the model, and one "
            "that nearly always gives the same answer is easily certified where that answer happens to be right."
        )
    return said


def kept(c: dict[str, Any]) -> float:
    """Robust / clean, at the small size."""
    return c["robust"]["small"]["value"] / max(c["clean"]["value"], 1e-9)


def percent(metric: dict[str, Any]) -> str:
    return f"{100 * metric['value']:.1f} ({100 * metric['low']:.0f}–{100 * metric['high']:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="folder of cifar10-small (train/ and test/)")
    parser.add_argument("--cells", type=Path, default=Path("robustness_cells.jsonl"))
    parser.add_argument("--table", type=Path, help="page to write")
    parser.add_argument("--table-only", action="store_true", help="only write the page from the finished cells")
    parser.add_argument("--side", type=int, default=64, help="pixels at which the source reads")
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--eps", type=float, default=8 / 255)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--certify", type=int, default=20)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = read_lines(arguments.cells)
    cells = [c for c in known if c["settings"] == settings(arguments)]
    for name, target in targets(arguments.images, arguments.shots, arguments.seed).items():
        for row in ROWS:
            if arguments.table_only or any((c["target"], c["row"]) == (name, row) for c in cells):
                continue
            cells.append(cell(name, row, target, arguments))
            with arguments.cells.open("a") as file:
                file.write(json.dumps(cells[-1]) + "\n")
            print(
                name,
                row,
                json.dumps({k: cells[-1][k] for k in ("clean", "robust", "certified", "cpu_seconds")}),
                flush=True,
            )
    text = page(cells, settings(arguments))
    print(text)
    if arguments.table:
        write_page(
            arguments.table,
            "Robustness of programs on a naturally trained source",
            "python benchmarks/robustness.py",
            text,
        )
    figures = {"cells": cells, "seeds": [arguments.seed], "versions": versions("torch")}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
