"""Do the depths over-rate models whose defences were broken? Twelve of them, each beside the attack that knows it.

    python benchmarks/broken_defences.py --seeds 10 11 12 --cells cells.jsonl --out docs/results/broken_defences.md

Over-rating: the worst case of a depth minus the accuracy under the strongest attack that we could write against this
defence by hand (its trick removed for the gradient, targeted APGD at every other class, 100 steps and restarts; expectation
over 20 draws where it answers at random, its success counted over 50 fresh passes; Square with 5,000 queries beside).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _broken_defences import Defence, defences
from common import append_line, read_lines, versions, write_page
from torch import Tensor

from reprogram.robustness import evaluate, settings
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.base import survival
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.attacks.square import Square
from reprogram.targets.mnist import mnist
from reprogram.threat import Threat

EPS, PASSES = 0.15, 50


def adaptive(defence: Defence, images: Tensor, labels: Tensor, seed: int) -> float:
    """Accuracy under the strongest attack that knows the defence: what it finds is judged by the model itself."""
    shared: dict[str, Any] = {"threat": Threat("linf", EPS), "seed": seed}
    draws = 20 if defence.random else 1
    passes = PASSES if defence.random else 1
    attacks = [APGD(**shared, steps=100, loss=loss, draws=draws) for loss in ("ce", "dlr")]
    attacks += [PGD(**shared, steps=100, loss="margin", draws=draws, restarts=1 if defence.random else 5)]
    if not defence.random:
        attacks += [APGD(**shared, steps=100, loss="targeted")]
    worst = survival(defence.model, images, labels, passes)
    for attack in attacks:
        left = torch.nonzero(worst > 0.02).squeeze(1)
        if len(left):
            # never stops at what the opened model gets wrong: the last point is judged by the defended one
            found = attack(defence.opened, images[left], labels[left], right=torch.ones(len(left), dtype=torch.bool))
            worst[left] = torch.minimum(worst[left], survival(defence.model, found.examples, labels[left], passes))
    left = torch.nonzero(worst > 0.02).squeeze(1)
    if len(left):
        found = Square(**shared, steps=5000)(defence.model, images[left], labels[left])
        worst[left] = torch.minimum(worst[left], survival(defence.model, found.examples, labels[left], passes))
    return float(worst.mean())


def cell(name: str, defence: Defence, images: Tensor, labels: Tensor, seed: int) -> dict[str, Any]:
    """One defence: both depths and the attack that knows it, on the same examples."""
    row: dict[str, Any] = {"defence": name, "seed": seed, "trick": defence.reads, "n": len(labels)}
    for depth in ("quick", "full"):
        start = time.process_time()
        attacks_only = {
            name: None
            for name, check in settings(depth).checks.items()
            if check is not None and check.kind != "attack"
        }
        chosen = settings(depth, examples=len(labels), threats={"linf": EPS}, checks=attacks_only)
        torch.manual_seed(seed)
        result = evaluate(defence.model, (images, labels), depth, seed=seed, settings=chosen)
        worst = next(r for r in result.data["robustness"]["rows"] if r["check"] == "worst_case")
        row |= {depth: worst["value"], f"{depth}_seconds": round(time.process_time() - start, 1)}
        row["flags"] = sorted({flag["code"] for flag in worst["flags"]})
    torch.manual_seed(seed)
    row["adaptive"] = adaptive(defence, images, labels, seed)
    return row


def table(cells: list[dict[str, Any]]) -> str:
    """The page's text: a line a defence, means over the seeds."""
    names = list(dict.fromkeys(c["defence"] for c in cells))
    lines = ["| defence | trick | quick | full | attack that knows it | over-rated by quick | by full | flags |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name in names:
        own = [c for c in cells if c["defence"] == name]
        mean = {k: float(np.mean([c[k] for c in own])) for k in ("quick", "full", "adaptive")}
        over = {d: max(c[d] - c["adaptive"] for c in own) for d in ("quick", "full")}
        flags = ", ".join(sorted(set.intersection(*(set(c["flags"]) for c in own)))) or "none"
        lines.append(
            f"| {name} | {own[0]['trick']} | {mean['quick']:.3f} | {mean['full']:.3f} | {mean['adaptive']:.3f} "
            f"| {over['quick']:+.3f} | {over['full']:+.3f} | {flags} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--only", default="", help="only defences with this in their name")
    parser.add_argument("--cells", type=Path, help="finished cells, one JSON line each")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cells = read_lines(arguments.cells) if arguments.cells else []
    known = {(c["defence"], c["seed"]) for c in cells}
    for seed in arguments.seeds:
        target = mnist(shots=200, seed=seed)
        images, labels = target.train.batch(range(len(target.train))), torch.as_tensor(target.train.labels)
        rows = np.sort(np.random.default_rng(seed).permutation(len(target.test))[: arguments.examples])
        tested, answers = target.test.batch(rows), torch.as_tensor(np.asarray(target.test.labels)[rows])
        for name, defence in defences(images, labels, seed).items():
            if (name, seed) in known or arguments.only not in name:
                continue
            cells.append(cell(name, defence, tested, answers, seed))
            print(json.dumps(cells[-1]), flush=True)
            if arguments.cells:
                append_line(arguments.cells, json.dumps(cells[-1]))
    seeds = sorted({c["seed"] for c in cells})
    worst = {d: max(c[d] - c["adaptive"] for c in cells) for d in ("quick", "full")}
    text = (
        f"Small networks on MNIST (2,000 training images), linf eps {EPS}, {arguments.examples} test examples, "
        f"seeds {', '.join(map(str, seeds))}. Over-rating is the largest of the seeds, everything else their mean; a flag is "
        f"named where every seed raised it. The most that a depth over-rates: quick {worst['quick']:+.3f}, "
        f"full {worst['full']:+.3f}.\n\nOver-rated: {__doc__.split('Over-rating:')[1].strip()}\n\n{table(cells)}"
    )
    print(text)
    if arguments.out:
        command = f"python benchmarks/broken_defences.py --seeds {' '.join(map(str, seeds))}"
        write_page(arguments.out, "Defences that were broken: are they over-rated?", command, text)
    print(json.dumps({"most": worst, "seeds": seeds, "versions": versions("torch")}))


if __name__ == "__main__":
    main()
