"""Looks for points outside proven bounds and for adversarial examples inside certified radii, on random small networks.

    python benchmarks/certificate_hunt.py --networks 10000

Right: 0 contradicted. The table says how many were bounded, and why the others were refused. Every fourth network gets a
certified radius too. About 15 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from _random_networks import random_network
from common import versions

from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.certification.linear_bounds.bounds import Ball, Bounds
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.certification.linear_bounds.trace import NotBounded, record
from reprogram.threat import Threat

NORMS = ("linf", "l2", "l1")
EPS = {"linf": (0.01, 0.3), "l2": (0.05, 1.0), "l1": (0.1, 3.0)}
INSIDE = 1 - 1e-5  # attacks stay this much inside the ball, so that their own rounding leaves it not
ROUNDING = 1e-9  # of the comparison itself


@dataclass
class Found:
    """What became of one network: bounded or why not, and what contradicted it."""

    refused: str | None = None
    radius: float = 0.0
    contradicted: list[str] = field(default_factory=list)


def hunt(net: nn.Module, centre: Tensor, seed: int, certify: bool = True) -> Found:
    """Bounds on one ball and (``certify``) a radius, both attacked."""
    drawn = torch.Generator().manual_seed(seed)
    norm = NORMS[seed % 3]
    low, high = EPS[norm]
    eps = low * (high / low) ** float(torch.rand(1, generator=drawn))
    parallel = bool(seed // 3 % 2)
    try:
        network = record(net, centre)
        bounds = Bounds(network, Ball(centre[None].double(), eps, norm), parallel=parallel).output()
        found = Found()
        found.contradicted += outside(net, centre, Threat(norm, eps * INSIDE), bounds, drawn)
        if certify:
            label = int(net(centre[None]).argmax())
            largest = min(2 * eps, 1.0) if norm == "linf" else 2 * eps
            ball = Ball(centre[None].double(), largest, norm)
            found.radius = LinearBounds(both=False, steps=5).widest(network, ball, label)
            found.contradicted += broken(net, centre, label, norm, found.radius)
    except NotBounded as error:
        return Found(refused=reason(str(error)))
    return found


def outside(
    net: nn.Module, centre: Tensor, threat: Threat, bounds: tuple[Tensor, Tensor], drawn: torch.Generator
) -> list[str]:
    """Answers out of bounds: samples, points at the edge, and ascent on every logit, up and down."""
    many = centre[None].expand(48, -1, -1, -1)
    far = threat.project(many, many + 9 * torch.randn(many.shape, generator=drawn).to(many))
    points = torch.cat([centre[None], threat.random(many, drawn), far])
    found = []
    with torch.no_grad():
        if _violates(net(points), bounds):
            found.append("samples in a batch")
        if _violates(torch.cat([net(x[None]) for x in points[:: 97 // 8]]), bounds):
            found.append("samples one by one")
    for sign in (1.0, -1.0):
        if _violates(_climbed(net, centre, threat, sign), bounds):
            found.append("gradient ascent")
    return found


def _climbed(net: nn.Module, centre: Tensor, threat: Threat, sign: float, steps: int = 6) -> Tensor:
    """Answers [T, T] of points that raise (or lower) one logit each."""
    classes = net(centre[None]).shape[1]
    start = centre[None].expand(classes, -1, -1, -1)
    x = start.clone()
    for _ in range(steps):
        x.requires_grad_(True)
        with torch.enable_grad():
            goal = net(x).diagonal().sum()
        (gradient,) = torch.autograd.grad(sign * goal, x, allow_unused=True) if goal.requires_grad else (None,)
        if gradient is None:
            break
        x = x.detach()
        x = threat.project(start, x + 0.5 * threat.eps * threat.steepest(x, gradient.nan_to_num()))
    with torch.no_grad():
        return net(x.detach())


def _violates(answers: Tensor, bounds: tuple[Tensor, Tensor]) -> bool:
    low, high = bounds
    answers = answers.double()
    return bool(((answers < low - ROUNDING) | (answers > high + ROUNDING)).any())


def broken(net: nn.Module, centre: Tensor, label: int, norm: str, radius: float) -> list[str]:
    """Attacks that find another answer inside a certified radius."""
    if radius <= 0:
        return []
    threat, x, y = Threat(norm, radius), centre[None], torch.tensor([label])
    found = []
    for loss in ("ce", "margin"):
        try:
            if bool(APGD(threat, steps=10, loss=loss, batch_size=1)(net, x, y).broken[0]):
                found.append(f"apgd {loss} inside the radius")
        except Exception as error:
            if "no gradient" not in str(error):
                raise
    drawn = torch.Generator().manual_seed(0)
    points = threat.random(x.expand(64, -1, -1, -1), drawn)
    if bool((net(points).argmax(1) != label).any()):
        found.append("a sample inside the radius")
    return found


def reason(message: str) -> str:
    """What a refusal says, without the layer's name and numbers."""
    said = message.split(": ", 1)[-1].rstrip(".")
    return re.sub(r"[-+.\d]+(e-?\d+)?(?= off| otherwise)", "#", said)


@dataclass
class Tally:
    """What was found so far."""

    first: int
    networks: int = 0
    bounded: int = 0
    radii: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    contradicted: list[dict[str, object]] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    def take(self, seed: int, names: list[str], found: Found) -> None:
        self.networks += 1
        if found.refused:
            self.reasons[found.refused] += 1
        else:
            self.bounded, self.radii = self.bounded + 1, self.radii + (found.radius > 0)
        if found.contradicted:
            self.contradicted.append({"seed": seed, "pieces": names, "by": found.contradicted})
            print(f"CONTRADICTED: {self.contradicted[-1]}", flush=True)
        if self.networks % 500 == 0:
            print(f"{self.networks} networks, {self.bounded} bounded, {len(self.contradicted)} contradicted",
                  file=sys.stderr, flush=True)  # fmt: skip

    def figures(self) -> dict[str, object]:
        return {
            "networks": self.networks, "first_seed": self.first, "bounded": self.bounded, "certified_radius": self.radii,
            "refused": sum(self.reasons.values()), "contradicted": len(self.contradicted), "cases": self.contradicted,
            "refused_by_reason": dict(self.reasons.most_common()), "seconds": round(time.time() - self.began, 1),
            "versions": versions("torch"),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first network")
    parser.add_argument("--traps", type=float, default=0.4, help="share of networks with a trap in them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tally = Tally(options.first)
    try:
        for seed in range(options.first, options.first + options.networks):
            net, centre, names = random_network(seed, options.traps)
            tally.take(seed, names, hunt(net, centre, seed, certify=seed % 4 == 0))
    except KeyboardInterrupt:
        pass  # what was found so far is told
    for said, count in tally.reasons.most_common():
        print(f"{count:6d}  {said}")
    print(json.dumps(tally.figures()))


if __name__ == "__main__":
    main()
