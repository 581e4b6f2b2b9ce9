"""The checks that a depth runs: each looks at the subject and gives rows; attacks are listed here by threat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from reprogram.errors import ConfigError
from reprogram.progress import progress
from reprogram.ranges import Amount, Checked, Count, Positive, Range
from reprogram.robustness import flags, measures
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
from reprogram.robustness.corruptions import SEVERITIES
from reprogram.robustness.inheritance import BareSource, inheritance
from reprogram.robustness.rows import Row, share_row
from reprogram.robustness.smallest import Smallest, smallest
from reprogram.robustness.subject import Outcome, Subject
from reprogram.threat import Threat

LARGEST = {"linf": 0.5, "l2": 1.0, "l1": 1.0}  # where any image can become grey; l2 and l1 in units of their diameter
LEFT_ONLY = ("apgd_ce", "apgd_dlr", "apgd_targeted", "square")  # dear ones, behind FGSM and PGD on all examples
MOST_BENDS = 3000  # of a network whose intermediate bounds are tightened by back-substitution


@dataclass
class Settings(Checked):
    """How deep to look. ``threats``: size of each norm in pixels of the target. 0 leaves a check out.

    examples: test examples drawn by the seed; ``few`` of them for the norms after the first and for dear checks.
    pgd / apgd: gradient steps (PGD also runs with half of them). targeted: steps towards each of the most likely other
    classes. square: calls an example. jumps: of HopSkipJump, on an eighth of the few. universal:
    passes over the crafting examples. transfer: craft on the bare source. draws: random points tried as noise. curve:
    sizes of the robustness curve in units of eps. clever, smooth, bounds: examples that are estimated, certified by
    smoothing, certified by linear bounds. samples: of smoothing, with noise ``sigma``. semantic: points of each grid.
    corruptions: severities. inheritance: compare with the source's own robustness and a linear probe.
    """

    examples: Count = 16
    few: Count = 16
    threats: dict[str, Positive] = field(default_factory=lambda: {"linf": 8 / 255})
    pgd: Count = 10
    apgd: Amount = 10
    targeted: Amount = 0
    square: Amount = 50
    jumps: Amount = 0
    universal: Amount = 0
    transfer: bool = False
    draws: Count = 2
    curve: tuple[Positive, ...] = (0.5, 2.0)
    clever: Amount = 0
    smooth: Amount = 0
    samples: Count = 500
    sigma: Positive = 0.25
    bounds: Amount = 0
    semantic: Amount = 0
    corruptions: tuple[Annotated[int, Range(1, 5)], ...] = ()
    inheritance: bool = False
    batch_size: Count = 64

    def __post_init__(self) -> None:
        for norm, eps in self.threats.items():
            Threat(norm, eps)
        if not self.threats:
            raise ConfigError("threats names no norm; allowed: linf, l2 and l1 with a size each, like linf: 0.03.")
        for key in ("examples", "few", "pgd", "draws", "samples", "batch_size"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)} must be at least 1.")
        for key in ("apgd", "targeted", "square", "jumps", "universal", "clever", "smooth", "bounds", "semantic"):
            if getattr(self, key) < 0:
                raise ConfigError(f"{key}={getattr(self, key)} must be 0 (leave it out) or more.")
        if not self.sigma > 0:
            raise ConfigError(f"sigma={self.sigma} must be above 0.")
        if unknown := sorted(set(self.corruptions) - set(SEVERITIES)):
            raise ConfigError(
                f"corruptions={list(self.corruptions)}: there is no severity {unknown[0]}; allowed: 1 to 5."
            )
        if not all(factor > 0 for factor in self.curve):
            raise ConfigError(f"curve={list(self.curve)}: every factor of eps must be above 0.")

    def count(self, norm: str) -> int:
        """Examples attacked in this norm."""
        return self.examples if norm == next(iter(self.threats)) else min(self.few, self.examples)


@dataclass(frozen=True)
class Check:
    """``name`` is also the key under which an interrupted run finds it again."""

    name: str
    run: Callable[[Subject], Outcome]


def clean(subject: Subject) -> Outcome:
    row = share_row("clean", "estimate", "none", subject.clean, flags=subject.flags)
    return Outcome([row], distances={})


def attack(
    subject: Subject, attack: Attack, name: str, count: int, hide: bool = False, left_only: bool = False
) -> Outcome:
    """Robust accuracy of the first ``count`` examples under one attack; those that are wrong already are broken.

    left_only: spend calls only on what the attacks before left, as AutoAttack does; the accuracy is that of all of them.
    """
    threat, total = attack.threat, len(subject.images)
    rows = torch.arange(min(count, total))
    if left_only:
        rows = torch.nonzero(subject.robust(threat.norm)[:count]).squeeze(1)
    images, labels = subject.images[rows], subject.labels[rows]
    model = straight_through(subject.model) if name == "bpda_pgd" else subject.model
    with progress(f"robustness: {name} {threat.norm}", len(images)) as bar:
        found = attack(model, images, labels, bar.advance, subject.clean[rows])
    nearest = Smallest.empty(threat.norm, images)
    nearest.update(images, found.examples, found.broken)
    broken, distances = torch.zeros(total, dtype=torch.bool), torch.full((total,), float("inf"))
    broken[rows], distances[rows] = found.broken, nearest.distances
    outcome = Outcome([], {threat.norm: {name: broken}}, distances={threat.norm: distances})
    if not hide:
        outcome.rows.append(_attack_row(subject, attack, name, count, left_only, broken, found.queries))
    return outcome


def _attack_row(
    subject: Subject, attack: Attack, name: str, count: int, left_only: bool, broken: Tensor, queries: Tensor
) -> Row:
    good = ~broken[:count]
    if left_only:
        good &= subject.robust(attack.threat.norm)[:count]
    unseen = isinstance(attack, Universal) and attack.craft is None and len(good) > 1
    spent = float(queries.mean()) if len(queries) else 0.0
    row = share_row(
        name, "attack", str(attack.threat), good[1::2] if unseen else good, queries=spent, access=attack.access
    )
    if left_only:
        row.threat += ", on what the attacks above left"
        row.more["asked"] = len(queries)
    if unseen:
        row.flags.append("crafted on the other half of the examples")
    if attack.access == "gradient" and name != "bpda_pgd" and subject.masked:
        row.flags.append("gradients are zero: this attack proves nothing")
    return row


def curve(subject: Subject, threat: Threat, sizes: Sequence[float], steps: int, count: int) -> Outcome:
    """Robust accuracy at several sizes, and the percentiles of the smallest successful perturbation."""
    most = _diameter(subject, threat.norm)
    known = subject.broken.get(threat.norm, {}).get("pgd")
    wanted = sorted(
        {min(threat.eps * factor, most) for factor in sizes} | {most} | ({threat.eps} if known is None else set())
    )
    images, labels = subject.images[:count], subject.labels[:count]

    def make(at: Threat) -> Attack:
        shared: dict[str, Any] = {"threat": at, "seed": subject.seed, "batch_size": subject.batch_size}
        return PGD(**shared, steps=steps) if subject.differentiable else Square(**shared, steps=2 * steps)

    nearest, broken = smallest(subject.model, images, labels, threat.norm, wanted, make)
    if known is not None:  # attacked at this size already
        broken[threat.eps] = known[:count]
    accuracy = {f"{eps:.4g}": float((~mask).float().mean()) for eps, mask in sorted(broken.items())}
    if subject.masked:  # a second look that rounding does not stop
        through, _ = smallest(straight_through(subject.model), images, labels, threat.norm, wanted, make)
        nearest.distances = torch.minimum(nearest.distances, through.distances)
    far = torch.minimum(nearest.distances, subject.distances.get(threat.norm, nearest.distances)[:count])
    nearest.distances = far
    row = Row("smallest_perturbation", "attack", threat.norm, nearest.percentiles((50,))["50"])
    row.n = int(subject.clean[:count].sum())
    row.more = {"percentiles": nearest.percentiles(), "curve": accuracy}
    if subject.differentiable:
        row.flags += [f for f in (flags.not_monotone(broken), flags.not_reaching_chance(broken, subject.classes)) if f]
    distances = torch.full((len(subject.images),), float("inf"))
    distances[:count] = far
    return Outcome([row], curves={threat.norm: broken}, distances={threat.norm: distances})


def _diameter(subject: Subject, norm: str) -> float:
    size = subject.images[0].numel()
    return LARGEST[norm] * {"linf": 1.0, "l2": size**0.5 / 2, "l1": size / 2}[norm]


def worst(subject: Subject, norm: str, eps: float, count: int) -> Outcome:
    """Each example under the attack that hurt it most, with every flag that the comparison of attacks raises."""
    masks = {name: mask[:count] for name, mask in subject.broken.get(norm, {}).items()}
    white = {k: m for k, m in masks.items() if k.split("_")[0] in ("fgsm", "pgd", "apgd")}
    black = {k: m for k, m in masks.items() if k in ("square", "hopskipjump", "noise", "transfer")}
    raised = [flags.blackbox_beats_whitebox(white, black)]
    if "fgsm" in masks and "pgd" in masks:
        raised.append(flags.single_step_beats_iterative(masks["fgsm"], masks["pgd"]))
        raised.append(flags.more_steps_help(masks["pgd_half"], masks["pgd"]))
    if subject.differentiable and norm in subject.curves:
        grid = subject.curves[norm]
        raised += [flags.not_monotone(grid), flags.not_reaching_chance(grid, subject.classes)]
    if "bpda_pgd" in masks:
        hidden = int((masks["bpda_pgd"] & ~torch.stack(list(white.values())).any(0)).sum())
        if hidden:
            raised.append(f"BPDA breaks {hidden} examples that plain gradients miss: rounding hides the gradients")
    every = [*subject.flags, *(flag for flag in raised if flag)]
    robust = subject.robust(norm)[:count]
    return Outcome(
        [share_row("worst_case", "attack", str(Threat(norm, eps)), robust, flags=every, attacks=sorted(masks))]
    )


def attacks(subject: Subject, settings: Settings) -> list[Check]:
    """Attack checks of all threats, in the order in which they run; query-only models get those that only ask."""
    plan: list[Check] = []
    for norm, eps in settings.threats.items():
        threat, count, few = Threat(norm, eps), settings.count(norm), min(settings.few, settings.examples)
        shared: dict[str, Any] = {"threat": threat, "seed": subject.seed, "batch_size": subject.batch_size}
        chosen: list[tuple[str, Attack, int]] = [("noise", Noise(**shared, draws=settings.draws), count)]
        if subject.differentiable:
            chosen += _gradient_attacks(subject, settings, shared, count, few)
        if settings.square:
            chosen.append(("square", Square(**shared, steps=settings.square), count))
        if settings.jumps and norm != "l1":
            jumping = HopSkipJump(**shared, steps=settings.jumps, directions=50)
            chosen.append(("hopskipjump", jumping, max(1, few // 8)))
        if settings.transfer and subject.source is not None:
            chosen.append(("transfer", Transfer(**shared, surrogate=subject.source, steps=settings.pgd), few))
        for name, one, n in chosen:
            # half of the steps are only there to see whether more steps help
            options: dict[str, Any] = {
                "hide": name == "pgd_half",
                "left_only": name in LEFT_ONLY and subject.differentiable,
            }
            plan.append(Check(f"{name} {norm}", partial(_attack, one=one, name=name, count=n, **options)))
        sizes, steps = settings.curve, max(settings.pgd // 2, 5)
        plan.append(Check(f"curve {norm}", partial(_curve, threat=threat, sizes=sizes, steps=steps, count=few)))
        plan.append(Check(f"worst {norm}", partial(worst, norm=norm, eps=eps, count=count)))
    return plan


def _attack(subject: Subject, one: Attack, **options: Any) -> Outcome:
    return attack(subject, one, **options)


def _curve(subject: Subject, threat: Threat, sizes: Sequence[float], steps: int, count: int) -> Outcome:
    return curve(subject, threat, sizes, steps, count)


def _gradient_attacks(
    subject: Subject, settings: Settings, shared: dict[str, Any], count: int, few: Count
) -> list[tuple[str, Attack, int]]:
    draws = 5 if subject.random else 1
    chosen: list[tuple[str, Attack, int]] = [
        ("fgsm", FGSM(**shared), count),
        ("pgd_half", PGD(**shared, steps=max(settings.pgd // 2, 1), draws=draws), count),
        ("pgd", PGD(**shared, steps=settings.pgd, draws=draws), count),
    ]
    if settings.apgd:
        chosen.append(("apgd_ce", APGD(**shared, steps=settings.apgd), count))
    if settings.targeted:
        chosen.append(("apgd_dlr", APGD(**shared, steps=settings.targeted, loss="dlr"), few))
        chosen.append(("apgd_targeted", APGD(**shared, steps=settings.targeted, loss="targeted"), few))
    if subject.masked:
        chosen.append(("bpda_pgd", PGD(**shared, steps=settings.pgd), count))
    if settings.universal:
        chosen.append(("universal", Universal(**shared, epochs=settings.universal, craft=subject.train), count))
    return chosen


def measurements(subject: Subject, settings: Settings) -> list[Check]:
    """Certificates, estimates, semantic perturbations and corruptions."""
    plan: list[Check] = []
    few = min(settings.few, settings.examples)
    for norm, eps in settings.threats.items():
        threat = Threat(norm, eps)
        if settings.clever and subject.differentiable:
            run = partial(measures.clever, threat=threat, count=settings.clever, batches=10, samples=16, targets=1)
            plan.append(Check(f"clever {norm}", run))
        if settings.bounds and subject.differentiable:
            run = partial(measures.linear_bounds, threat=threat, count=settings.bounds, most=MOST_BENDS)
            plan.append(Check(f"linear bounds {norm}", run))
    if settings.inheritance and subject.differentiable and isinstance(subject.source, BareSource):
        norm, eps = next(iter(settings.threats.items()))
        shared: dict[str, Any] = {"threat": Threat(norm, eps), "steps": settings.pgd, "count": few}
        plan.append(Check("inheritance", partial(inheritance, **shared)))
    if settings.smooth:
        noise: dict[str, Any] = {"sigma": settings.sigma, "count": settings.smooth, "samples": settings.samples}
        plan.append(Check("smoothing", partial(measures.smoothing, **noise, eps=settings.threats)))
    if settings.semantic:
        certified = settings.bounds if subject.differentiable else 0
        run = partial(measures.semantics, points=settings.semantic, count=few, certified=certified, most=MOST_BENDS)
        plan.append(Check("semantic", run))
    if settings.corruptions:
        run = partial(measures.corrupted, severities=settings.corruptions, count=few)
        plan.append(Check("corruptions", run))
    return plan
