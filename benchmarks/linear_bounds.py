"""Linear bounds beside auto_LiRPA's CROWN and alpha-CROWN on small CNNs with bends of seven kinds.

    python benchmarks/linear_bounds.py --page docs/results/linear_bounds.md

auto_LiRPA 0.3 (with onnx, appdirs and sortedcontainers) belongs into an environment of its own. Looseness is the sum over
images and other classes of (the label's lead at the image minus its lower bound in the box): smaller is better, 0 is linear.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _lirpa import Lirpa
from common import append_line, read_lines, versions, write_page
from torch import Tensor, nn

from reprogram.robustness.certification.linear_bounds.bounds import Ball, Bounds
from reprogram.robustness.certification.linear_bounds.trace import record
from reprogram.robustness.evaluated_model import gather
from reprogram.robustness.unfrozen import accuracy, learn
from reprogram.targets.digits import digits

WITHIN = 1.01  # of the other's looseness


class ProductSiLU(nn.Module):
    """SiLU written as a product, which is how auto_LiRPA 0.3 can read it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


BENDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {  # here, as the other reads it
    "ReLU": (nn.ReLU, nn.ReLU),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), lambda: nn.LeakyReLU(0.1)),
    "tanh": (nn.Tanh, nn.Tanh),
    "sigmoid": (nn.Sigmoid, nn.Sigmoid),
    "softplus": (nn.Softplus, nn.Softplus),
    "SiLU": (nn.SiLU, ProductSiLU),
    "GELU": (nn.GELU, nn.GELU),
}


def network(bend: Callable[[], nn.Module], seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), bend(), nn.Conv2d(8, 8, 3, 1, 1), bend(), nn.Flatten(), nn.Linear(128, 32), bend(),
        nn.Linear(32, 10),
    )  # fmt: skip


def against(label: int) -> Tensor:
    """[9, 10]: the label's lead over each other class."""
    rows = -torch.eye(10, dtype=torch.float64)
    rows[:, label] += 1
    return torch.cat([rows[:label], rows[label + 1 :]])


def ours(model: nn.Module, image: Tensor, eps: float, rows: Tensor, steps: int) -> dict[str, Tensor]:
    traced = record(model, image)
    with torch.no_grad():
        found = {}
        for name, parallel in (("adaptive", False), ("parallel", True)):
            bounds = Bounds(traced, Ball(image[None].double(), eps, "linf"), parallel=parallel)
            found[name] = bounds.output(rows)[0]
            if not parallel:
                found["slopes"] = bounds.optimised(rows, steps)
        whole = Bounds(traced, Ball(image[None].double(), eps, "linf"), slopes=steps).optimised(rows, steps)
    return {
        "CROWN": found["adaptive"], "better of two": torch.maximum(found["adaptive"], found["parallel"]),
        "last slopes": found["slopes"], "alpha-CROWN": torch.maximum(whole, found["parallel"]),
    }  # fmt: skip


def theirs(
    models: dict[str, Lirpa], image: Tensor, eps: float, rows: Tensor, steps: int, refused: dict[str, str]
) -> dict[str, Tensor]:
    """What it bounds; ``refused`` takes what it said to each method that it did not carry out."""
    low, high = (image[None] - eps).clamp(0, 1), (image[None] + eps).clamp(0, 1)
    found = {}
    for name, method in {"CROWN": "CROWN", "alpha-CROWN": "CROWN-Optimized"}.items():
        if name not in refused:
            try:
                found[name] = models[name].lower(image[None], low, high, rows.float(), method, steps).double()
            except Exception as error:  # of any kind: operations and shapes that it does not know
                refused[name] = told(error)
    return found


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].removesuffix(": ")[:100]


def cell(name: str, seed: int, eps: float, count: int, steps: int) -> dict[str, Any]:
    bend, other_bend = BENDS[name]
    target = digits(shots=None, seed=0)
    model = learn(network(bend, seed), *gather(target.train, None), 15, 1e-2, seed)
    images, labels = gather(target.test, None)
    loose: dict[str, float] = {}
    seconds = {"here": 0.0, "auto_LiRPA": 0.0}
    refused: dict[str, str] = {}
    others = twins(model, other_bend, seed, images[:1], refused)
    for image, label in zip(images[:count], labels[:count].tolist(), strict=True):
        rows = against(label)
        lead = rows @ model(image[None]).detach().double()[0]
        for who in seconds:
            start = time.process_time()
            if who == "here":
                found = ours(model, image, eps, rows, steps)
            else:
                found = theirs(others, image, eps, rows, steps, refused)
            seconds[who] += time.process_time() - start
            for method, bound in found.items():
                key = f"{who}, {method}"
                loose[key] = loose.get(key, 0.0) + float((lead - bound).sum())
    return {
        "bend": name, "seed": seed, "eps": eps, "images": count, "steps": steps, "loose": loose, "seconds": seconds,
        "refused": refused, "accuracy": accuracy(model, images, labels),
    }  # fmt: skip


def twins(
    model: nn.Module, bend: Callable[[], nn.Module], seed: int, example: Tensor, refused: dict[str, str]
) -> dict[str, Lirpa]:
    """The same network as auto_LiRPA reads it, one for each method: a method that fails leaves its model torn."""
    found = {}
    for name in ("CROWN", "alpha-CROWN"):
        same = network(bend, seed)
        same.load_state_dict(model.state_dict())
        try:
            found[name] = Lirpa(same.eval(), example)
        except Exception as error:
            refused[name] = told(error)
    return found


def page(cells: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    first, seeds = cells[0], ", ".join(map(str, sorted({c["seed"] for c in cells})))
    sizes = sorted({c["eps"] for c in cells})
    lines = [
        f"CNNs of two convolutions and two linear layers on 8 x 8 digits; seeds {seeds}, "
        f"{first['images']} test images each, linf boxes of {' and '.join(f'{e:g}' for e in sizes)} cut to [0, 1], "
        f"{first['steps']} steps of slopes for both. Looseness: the sum of what the label's lead at the image is above its lower "
        "bound in the box, relative to CROWN here (smaller is tighter). *Better of two*: lines below ReLUs adaptive or parallel; "
        "*last slopes*: optimised for the answer alone; *alpha-CROWN*: for every interval before a bend as well. "
        "auto_LiRPA is release 0.3; it reads SiLU as a product.",
        "",
    ]
    own_columns = ("here, CROWN", "here, better of two", "here, last slopes", "here, alpha-CROWN")
    columns = (*own_columns, "auto_LiRPA, CROWN", "auto_LiRPA, alpha-CROWN")
    figures: dict[str, Any] = {}
    worst = {"CROWN": 0.0, "alpha-CROWN": 0.0}
    for eps in sizes:
        lines += [f"## linf {eps:g}", "", "| bend | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
        for bend in dict.fromkeys(c["bend"] for c in cells):
            own = [c for c in cells if c["bend"] == bend and c["eps"] == eps]
            total = {k: sum(c["loose"][k] for c in own) for k in columns if all(k in c["loose"] for c in own)}
            base = total["here, CROWN"]
            lines.append(f"| {bend} | " + " | ".join(f"{total[k] / base:.3f}" if k in total else "–" for k in columns) + " |")
            figures[f"{bend} {eps:g}"] = {k: v / base for k, v in total.items()}
            for method, here in (("CROWN", "here, better of two"), ("alpha-CROWN", "here, alpha-CROWN")):
                if f"auto_LiRPA, {method}" in total:
                    worst[method] = max(worst[method], total[here] / total[f"auto_LiRPA, {method}"])
        lines.append("")
    for method, ratio in worst.items():
        lines.append(
            f"{method}: at most {ratio:.3f} of auto_LiRPA's looseness where that runs, wanted at most {WITHIN:g}: "
            f"{'reached' if ratio <= WITHIN else 'not reached'}."
        )
    lines += ["", "What it does not carry out (–):", ""]
    for bend in dict.fromkeys(c["bend"] for c in cells):
        said = {m: t for c in cells if c["bend"] == bend for m, t in c["refused"].items()}
        lines += [f"- {bend}, {method}: `{text}`" for method, text in said.items()]
    spent = {who: sum(c["seconds"][who] for c in cells if not c["refused"]) for who in ("here", "auto_LiRPA")}
    lines += ["", f"CPU seconds where both ran everything: {spent['here']:.1f} here, {spent['auto_LiRPA']:.1f} there."]
    return "\n".join(lines), figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--eps", type=float, nargs="+", default=[0.03, 0.06])
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cells", type=Path, default=Path("outputs/linear_bounds/cells.jsonl"))
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = {(c["bend"], c["seed"], c["eps"]) for c in read_lines(args.cells)}
    for seed in args.seeds:
        for eps in args.eps:
            for bend in BENDS:
                if (bend, seed, eps) not in done:
                    found = cell(bend, seed, eps, args.images, args.steps)
                    append_line(args.cells, json.dumps(found))
                    print(bend, seed, eps, found["loose"], flush=True)
    text, figures = page(read_lines(args.cells))
    print(text)
    if args.page:
        write_page(args.page, "Linear bounds beside auto_LiRPA", "python benchmarks/linear_bounds.py", text)
    print(json.dumps({"figures": figures, "seeds": args.seeds, "versions": versions("torch", "auto_LiRPA")}))


if __name__ == "__main__":
    main()
