"""The checks that a depth runs: each looks at the subject and gives rows; attacks are listed here by threat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from reprogram.errors import ConfigError
from reprogram.progress import progress
from reprogram.robustness import flags
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.base import Attack
from reprogram.robustness.attacks.bpda import straight_through
from reprogram.robustness.attacks.fgsm import FGSM
from reprogram.robustness.attacks.hopskipjump import HopSkipJump
from reprogram.robustness.attacks.noise import Noise
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.attacks.square import Square
from reprogram.robustness.attacks.transfer import Transfer
from reprogram.robustness.attacks.universal import Universal
from reprogram.robustness.rows import Row, share_row
from reprogram.robustness.smallest import Smallest, smallest
from reprogram.robustness.subject import Outcome, Subject
from reprogram.threat import Threat

LARGEST = {"linf": 0.5, "l2": 1.0, "l1": 1.0}  # where any image can become grey; l2 and l1 in units of their diameter
CURVE = (0.25, 0.5, 1.0, 2.0, 4.0)  # sizes of the curve, in units of eps


@dataclass
class Settings:
    """How deep to look. ``threats``: size of each norm in pixels of the target. 0 steps leave a check out.

    examples: test examples drawn by the seed. pgd / apgd: gradient steps (PGD also runs with half of them).
    targeted: steps towards each of the most likely other classes. square: calls an example. jumps: of HopSkipJump.
    """

    examples: int = 32
    threats: dict[str, float] = field(default_factory=lambda: {"linf": 8 / 255})
    pgd: int = 20
    apgd: int = 20
    targeted: int = 0
    square: int = 100
    jumps: int = 0
    universal: int = 0
    transfer: bool = False
    draws: int = 5
    batch_size: int = 64


@dataclass(frozen=True)
class Check:
    """``name`` is also the key under which an interrupted run finds it again."""

    name: str
    run: Callable[[Subject], Outcome]


def clean(subject: Subject) -> Outcome:
    row = share_row("clean", "estimate", "none", subject.clean, flags=subject.flags)
    return Outcome([row], distances={})


def attack(subject: Subject, attack: Attack, name: str | None = None, hide: bool = False) -> Outcome:
    """Robust accuracy under one attack on all examples; those that are wrong already count as broken."""
    name, threat = name or attack.name, attack.threat
    white = attack.access == "gradient"
    model = straight_through(subject.model) if name.startswith("bpda") else subject.model
    with progress(f"robustness: {name} {threat.norm}", len(subject.images)) as bar:
        found = attack(model, subject.images, subject.labels, bar.advance)
    nearest = Smallest.empty(threat.norm, subject.images)
    nearest.update(subject.images, found.examples, found.broken)
    row = share_row(name, "attack", str(threat), ~found.broken, queries=float(found.queries.mean()))
    row.more["access"] = attack.access
    if white and any(flag.startswith("zero gradients") for flag in subject.flags) and not name.startswith("bpda"):
        row.flags.append("gradients are zero: this attack proves nothing")
    if isinstance(attack, Universal) and attack.craft is None:
        unseen = share_row(name, "attack", str(threat), ~found.broken[1::2] if len(found.broken) > 1 else ~found.broken)
        row = Row(**{**unseen.__dict__, "more": row.more, "flags": ["crafted on the other half of the examples"]})
    rows = [] if hide else [row]
    return Outcome(rows, {threat.norm: {name: found.broken}}, distances={threat.norm: nearest.distances})


def curve(subject: Subject, threat: Threat, steps: int) -> Outcome:
    """Robust accuracy at several sizes, and the percentiles of the smallest successful perturbation."""
    most = _diameter(subject, threat.norm)
    sizes = sorted({min(threat.eps * factor, most) for factor in CURVE} | {most})
    gradient = subject.differentiable

    def make(at: Threat) -> Attack:
        shared: dict[str, Any] = {"threat": at, "seed": subject.seed, "batch_size": subject.batch_size}
        return PGD(**shared, steps=steps) if gradient else Square(**shared, steps=2 * steps)

    nearest, broken = smallest(subject.model, subject.images, subject.labels, threat.norm, sizes, make)
    right = int(subject.clean.sum())
    accuracy = {f"{eps:.4g}": float((~mask).float().mean()) for eps, mask in broken.items()}
    median = nearest.percentiles((50,))["50"]
    row = Row("smallest_perturbation", "attack", threat.norm, median, n=right)
    row.more = {"percentiles": nearest.percentiles(), "curve": accuracy}
    if gradient:
        row.flags += [f for f in (flags.not_monotone(broken), flags.not_reaching_chance(broken, subject.classes)) if f]
    return Outcome([row], curves={threat.norm: broken}, distances={threat.norm: nearest.distances})


def _diameter(subject: Subject, norm: str) -> float:
    size = subject.images[0].numel()
    return LARGEST[norm] * {"linf": 1.0, "l2": size**0.5 / 2, "l1": size / 2}[norm]


def worst(subject: Subject, norm: str, eps: float) -> Outcome:
    """Each example under the attack that hurt it most, with every flag that the comparison of attacks raises."""
    masks = subject.broken.get(norm, {})
    white = {k: m for k, m in masks.items() if k.split("_")[0] in ("fgsm", "pgd", "apgd")}
    black = {k: m for k, m in masks.items() if k in ("square", "hopskipjump", "noise", "transfer")}
    raised = [flags.blackbox_beats_whitebox(white, black)] if subject.differentiable else []
    if "fgsm" in masks and "pgd" in masks:
        raised.append(flags.single_step_beats_iterative(masks["fgsm"], masks["pgd"]))
    if "pgd_half" in masks and "pgd" in masks:
        raised.append(flags.more_steps_help(masks["pgd_half"], masks["pgd"]))
    if subject.differentiable and norm in subject.curves:
        grid = subject.curves[norm]
        raised += [flags.not_monotone(grid), flags.not_reaching_chance(grid, subject.classes)]
    bpda = masks.get("bpda_pgd")
    if bpda is not None and white:
        hidden = int((bpda & ~torch.stack(list(white.values())).any(0)).sum())
        if hidden:
            raised.append(f"BPDA breaks {hidden} examples that plain gradients miss: rounding hides the gradients")
    every = [*subject.flags, *(flag for flag in raised if flag)]
    robust = subject.robust(norm)
    row = share_row("worst_case", "attack", str(Threat(norm, eps)), robust, flags=every, attacks=sorted(masks))
    if not masks:
        raise ConfigError(f"No attack was run in {norm}, so there is no worst case.")
    return Outcome([row])


def attacks(subject: Subject, settings: Settings) -> list[Check]:
    """Attack checks of all threats, in the order in which they run; query-only models get those that only ask."""
    plan: list[Check] = []
    for norm, eps in settings.threats.items():
        threat = Threat(norm, eps)
        shared: dict[str, Any] = {"threat": threat, "seed": subject.seed, "batch_size": subject.batch_size}
        chosen: list[tuple[str, Attack]] = [("noise", Noise(**shared, draws=settings.draws))]
        if subject.differentiable:
            chosen += _gradient_attacks(subject, settings, shared)
        if settings.square:
            chosen.append(("square", Square(**shared, steps=settings.square)))
        if settings.jumps and norm != "l1":
            chosen.append(("hopskipjump", HopSkipJump(**shared, steps=settings.jumps)))
        if settings.transfer and subject.source is not None:
            chosen.append(("transfer", Transfer(**shared, surrogate=subject.source, steps=settings.pgd)))
        plan += [_attack_check(f"{name} {norm}", name, one) for name, one in chosen]
        plan.append(Check(f"curve {norm}", _curve_check(threat, max(settings.pgd // 2, 5))))
        plan.append(Check(f"worst {norm}", _worst_check(norm, eps)))
    return plan


def _gradient_attacks(subject: Subject, settings: Settings, shared: dict[str, Any]) -> list[tuple[str, Attack]]:
    draws = 5 if any(flag.startswith("random") for flag in subject.flags) else 1
    chosen: list[tuple[str, Attack]] = [
        ("fgsm", FGSM(**shared)),
        ("pgd_half", PGD(**shared, steps=max(settings.pgd // 2, 1), draws=draws)),
        ("pgd", PGD(**shared, steps=settings.pgd, draws=draws)),
    ]
    if settings.apgd:
        chosen.append(("apgd_ce", APGD(**shared, steps=settings.apgd)))
    if settings.targeted:
        chosen.append(("apgd_dlr", APGD(**shared, steps=settings.targeted, loss="dlr")))
        chosen.append(("apgd_targeted", APGD(**shared, steps=settings.targeted, loss="targeted")))
    if any(flag.startswith("zero gradients") for flag in subject.flags):
        chosen.append(("bpda_pgd", PGD(**shared, steps=settings.pgd)))
    if settings.universal:
        chosen.append(("universal", Universal(**shared, epochs=settings.universal, craft=subject.train)))
    return chosen


def _attack_check(key: str, name: str, one: Attack) -> Check:
    hide = name == "pgd_half"  # only there to see whether more steps help
    return Check(key, lambda subject: attack(subject, one, name, hide))


def _curve_check(threat: Threat, steps: int) -> Callable[[Subject], Outcome]:
    return lambda subject: curve(subject, threat, steps)


def _worst_check(norm: str, eps: float) -> Callable[[Subject], Outcome]:
    return lambda subject: worst(subject, norm, eps)
