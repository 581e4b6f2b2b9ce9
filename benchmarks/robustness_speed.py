"""Speed of attacks, CLEVER and smoothing, side by side with what a user would run instead, in one process.

    python benchmarks/robustness_speed.py --repeats 5

PGD-20 against ART, foolbox, torchattacks (those that are installed) and a plain loop; CLEVER against ART; smoothing
against the bare forward rate of the model. Times are CPU seconds of this process, the least of interleaved repeats.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from common import versions, write_page
from torch import Tensor, nn

from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.certification.randomized_smoothing import Smoothing
from reprogram.robustness.estimates.clever import CleverScore
from reprogram.threat import Threat

EPS, STEP, STEPS = 8 / 255, 2 / 255, 20


def network(width: int) -> nn.Sequential:
    """Four convolutions on 32x32 colour images, ten classes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for entry, leave, stride in ((3, width, 1), (width, width, 2), (width, 2 * width, 1), (2 * width, 2 * width, 2)):
        layers += [nn.Conv2d(entry, leave, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32 * width, 10)).eval()


def taught(model: nn.Module, steps: int = 60) -> tuple[nn.Module, Tensor, Tensor]:
    """A model that tells ten fixed textures apart under noise, so that an attack has something to do; test batch."""
    generator = torch.Generator().manual_seed(0)
    textures = torch.rand(10, 3, 32, 32, generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)

    def batch(n: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(0, 10, (n,), generator=generator)
        noise = torch.rand(n, 3, 32, 32, generator=generator)
        return 0.5 * textures[labels] + 0.5 * noise, labels

    for _ in range(steps):
        images, labels = batch(64)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model = model.eval().requires_grad_(False)
    images, labels = batch(256)
    right = (model(images).argmax(1) == labels).nonzero().squeeze(1)[:64]
    if len(right) < 64:
        raise SystemExit("The model answers too few images rightly; every implementation must face 64 unbroken ones.")
    return model, images[right], labels[right]


def plain_loop(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    x = (images + eps * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    for _ in range(STEPS):
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), labels), x)
        x = x.detach() + STEP * gradient.sign()
        x = torch.min(torch.max(x, images - eps), images + eps).clamp(0, 1)
    return x


def attackers(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> dict[str, Callable[[], Tensor]]:
    """Name -> a call that returns the perturbed images; the same model, budget and batch for all."""
    ours = PGD(Threat("linf", eps), steps=STEPS, step_size=STEP)
    found: dict[str, Callable[[], Tensor]] = {
        "this": lambda: ours(model, images, labels).examples,
        "plain loop": lambda: plain_loop(model, images, labels, eps),
    }
    if find_spec("art"):
        from art.attacks.evasion import ProjectedGradientDescentPyTorch as ArtPGD
        from art.estimators.classification import PyTorchClassifier

        art = PyTorchClassifier(
            model, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0.0, 1.0), device_type="cpu"
        )
        theirs = ArtPGD(art, eps=eps, eps_step=STEP, max_iter=STEPS, num_random_init=1, batch_size=64, verbose=False)
        found["ART"] = lambda: torch.as_tensor(theirs.generate(images.numpy(), labels.numpy()))
    if find_spec("foolbox"):
        import foolbox

        box = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        linf = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS)
        found["foolbox"] = lambda: linf(box, images, labels, epsilons=eps)[1]
    if find_spec("torchattacks"):
        import torchattacks

        attack = torchattacks.PGD(model, eps=eps, alpha=STEP, steps=STEPS)
        found["torchattacks"] = lambda: attack(images, labels)
    return found


def timed(calls: dict[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Least CPU seconds of each call over interleaved repeats after a warm-up (others on the machine only add); answers."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    answers = {name: call() for name, call in calls.items()}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            answers[name] = call()
            spent[name].append(time.process_time() - start)
    return {name: min(values) for name, values in spent.items()}, answers


def pgd(model: nn.Module, images: Tensor, labels: Tensor, repeats: int) -> dict[str, Any]:
    """At eps 8/255 most examples break early; at 0.1/255 none does, so that early exit saves nothing."""
    figures: dict[str, Any] = {}
    for name, eps in (("eps 8/255", EPS), ("eps 0.1/255, nothing breaks", 0.1 / 255)):
        seconds, answers = timed(attackers(model, images, labels, eps), repeats)
        accuracy = {k: float((model(x).argmax(1) == labels).float().mean()) for k, x in answers.items()}
        figures[name] = {"seconds": seconds, "robust_accuracy": accuracy}
    return figures


def clever(model: nn.Module, images: Tensor, labels: Tensor, repeats: int) -> dict[str, Any]:
    """Untargeted CLEVER of one image over all nine other classes, 50 batches of 32 from a pool of 10 x 32.

    ``bare``: only the passes that following every class takes (320 forward, 9 x 320 backward), without CLEVER around
    them: what no exhaustive implementation can go below.
    """
    if not find_spec("art"):
        return {}
    from art.estimators.classification import PyTorchClassifier
    from art.metrics import clever_u

    art = PyTorchClassifier(model, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0.0, 1.0), device_type="cpu")
    row = int((model(images).argmax(1) == labels).nonzero()[0])
    x, y = images[row : row + 1], labels[row : row + 1]

    def ours(screen: bool) -> float:
        score = CleverScore("l2", batches=50, samples=32, pool=10, radius=2.0, screen=screen)
        return float(score(model, x, y).score[0])

    def bare() -> float:
        for _ in range(10):
            points = (x + 0.01 * torch.randn(32, *x.shape[1:])).contiguous(memory_format=torch.channels_last)
            points.requires_grad_(True)
            logits = model(points)
            for target in range(9):
                torch.autograd.grad(logits[:, target].sum(), points, retain_graph=target < 8)
        return float("nan")

    calls: dict[str, Callable[[], Any]] = {
        "this": lambda: ours(True),
        "this, every class followed": lambda: ours(False),
        "passes of every class alone": bare,
        "ART": lambda: float(
            clever_u(art, x[0].numpy(), 50, 32, radius=2.0, norm=2, pool_factor=10, verbose=False)
        ),
    }  # fmt: skip
    seconds, scores = timed(calls, repeats)
    return {
        "seconds": seconds,
        "score": scores,
        "speedup": seconds["ART"] / seconds["this"],
        "bound": seconds["ART"] / seconds["passes of every class alone"],
    }


def smoothing(model: nn.Module, image: Tensor, samples: int, repeats: int) -> dict[str, Any]:
    """Share of the time of certifying one image with so many samples that the bare forward passes take."""
    batch = image.expand(256, -1, -1, -1).contiguous()

    @torch.no_grad()
    def forward() -> None:
        for _ in range(-(-samples // 256)):
            model(batch)

    figures = {}
    for name, first_order in (("zeroth order", False), ("first order", True)):
        certifier = Smoothing(sigma=0.25, draws=1, samples=samples, first_order=first_order)
        seconds, _ = timed({"forward": forward, "certify": lambda c=certifier: c.certify(model, image)}, repeats)
        figures[name] = {"seconds": seconds, "share_of_forward_rate": seconds["forward"] / seconds["certify"]}
    return figures


def reached(yes: bool) -> str:
    return "Reached" if yes else "Not reached"


def screening(seconds: dict[str, float]) -> str:
    """What screening was worth on this model, in words."""
    share = seconds["this"] / seconds["this, every class followed"]
    if share > 0.9:
        return "all classes lie about equally near on this model, so that it saves nothing here."
    return f"here it takes {share:.0%} of the time of following all."


def page(figures: dict[str, Any]) -> str:
    lines = [
        "## PGD-20",
        "",
        "CPU seconds for 64 images of 32x32; robust accuracy in brackets. This implementation's time holds the passes that",
        "tell which images were right at first and which are broken in the end; the others leave that to the caller. It takes",
        "as many images at a time as stay in the cache of a core (32 of these); the others take the batch as it is given.",
        "",
    ]
    for name, cell in figures["pgd"].items():
        fastest = min(v for k, v in cell["seconds"].items() if k != "this")
        ratio = cell["seconds"]["this"] / fastest
        lines += [f"### {name}", "", "| implementation | seconds | relative to the fastest other |", "|---|---|---|"]
        for who, seconds in sorted(cell["seconds"].items(), key=lambda item: item[1]):
            lines.append(f"| {who} | {seconds:.3f} ({cell['robust_accuracy'][who]:.3f}) | {seconds / fastest:.2f} |")
        lines += [
            "",
            f"Target: no slower than the fastest other. {reached(ratio <= 1)} ({ratio:.2f}).",
            "",
        ]
    if figures["clever"]:
        c = figures["clever"]
        lines += ["## CLEVER", "", "One image, nine classes, 50 batches of 32 samples from a pool of 320.", ""]
        lines += ["| implementation | seconds | score |", "|---|---|---|"]
        for who, seconds in c["seconds"].items():
            score = "–" if math.isnan(c["score"][who]) else f"{c['score'][who]:.4f}"
            lines.append(f"| {who} | {seconds:.3f} | {score} |")
        lines += [
            "",
            f"Target: at least 10 times as fast as ART. {reached(c['speedup'] >= 10)} ({c['speedup']:.1f}x).",
            "",
            "ART computes two gradients a class and point, 10 points at a time; one forward pass and one gradient a class "
            f"are enough. Those passes alone, 32 points at a time, take 1/{c['bound']:.1f} of ART's time, so following every "
            "class can only be about so much faster. Screening follows only the classes that may be the nearest and leaves the "
            "untargeted score as it is; " + screening(c["seconds"]),
            "",
        ]
    lines += [
        "## Randomized smoothing",
        "",
        f"{figures['samples']:,} samples of one image; the forward passes alone, 256 samples at a time, are 100%. The "
        "certificates draw 256 at a time and ask about as many as stay in the cache of a core.",
        "",
    ]
    lines += ["| certificate | forward, s | certify, s | share of the forward rate |", "|---|---|---|---|"]
    for name, cell in figures["smoothing"].items():
        seconds = cell["seconds"]
        lines.append(
            f"| {name} | {seconds['forward']:.2f} | {seconds['certify']:.2f} | {cell['share_of_forward_rate']:.0%} |"
        )
    all_reach = all(c["share_of_forward_rate"] >= 0.9 for c in figures["smoothing"].values())
    lines += ["", f"Target: at least 90%. {reached(all_reach)} by all."]
    return "\n".join(lines)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The sections that are not in ``--cells`` yet; each is kept as soon as it is finished."""
    wanted = {"repeats": arguments.repeats, "width": arguments.width, "threads": arguments.threads}
    smooth = wanted | {"samples": arguments.samples}
    figures: dict[str, Any] = {}
    for line in arguments.cells.read_text().splitlines() if arguments.cells.exists() else []:
        cell = json.loads(line)
        if cell["settings"] == (smooth if cell["section"] == "smoothing" else wanted):
            figures[cell["section"]] = cell["figures"]
    model, images, labels = taught(network(arguments.width))
    few = max(1, arguments.repeats // 2)
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "pgd": lambda: pgd(model, images, labels, arguments.repeats),
        "clever": lambda: clever(model, images, labels, few),
        "smoothing": lambda: smoothing(model, images[0], arguments.samples, few),
    }
    for name, run in sections.items():
        if name not in figures and name in (arguments.only or sections):
            figures[name] = run()
            cell = {"section": name, "settings": smooth if name == "smoothing" else wanted, "figures": figures[name]}
            with arguments.cells.open("a") as file:
                file.write(json.dumps(cell) + "\n")
            print(json.dumps(cell), flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=32, help="channels of the first layer")
    parser.add_argument("--samples", type=int, default=100_000, help="of smoothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cells", type=Path, default=Path("robustness_speed_cells.jsonl"), help="finished sections")
    parser.add_argument("--only", nargs="*", choices=("pgd", "clever", "smoothing"), help="sections to run")
    parser.add_argument("--table", type=Path, help="page to write, e.g. docs/results/robustness_speed.md")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(arguments)
    figures |= {"samples": arguments.samples, "seeds": [0], "threads": arguments.threads}
    figures["versions"] = versions("torch", "adversarial-robustness-toolbox", "foolbox", "torchattacks")
    if {"pgd", "clever", "smoothing"} <= figures.keys():
        text = page(figures)
        print(text)
        if arguments.table:
            write_page(arguments.table, "Speed of the robustness checks", "python benchmarks/robustness_speed.py", text)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
