"""Checks that certify, estimate or corrupt: beside the attacks of :mod:`~reprogram.robustness.checks`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from reprogram.progress import progress, track
from reprogram.robustness import corruptions, semantic
from reprogram.robustness.clever import CleverScore
from reprogram.robustness.linear_bounds.certify import LinearBounds
from reprogram.robustness.linear_bounds.trace import NotBounded
from reprogram.robustness.losses import wrong
from reprogram.robustness.rows import Row, share_row
from reprogram.robustness.smoothing import Smoothed, Smoothing
from reprogram.robustness.subject import Outcome, Subject
from reprogram.threat import Threat

CANNOT = (NotBounded, RuntimeError, TypeError)  # models that recording does not get through
REACH = 4.0  # radius that CLEVER samples and linear bounds try at most, in units of eps


def chosen(subject: Subject, count: int) -> Tensor:
    """The first ``count`` examples that are answered rightly."""
    return torch.nonzero(subject.clean).squeeze(1)[:count]


def clever(subject: Subject, threat: Threat, count: int, batches: int, samples: int, targets: int) -> Outcome:
    """Percentiles of the estimated distance; the score is capped at the radius that was sampled."""
    rows = chosen(subject, count)
    if not len(rows):
        return Outcome()
    score = CleverScore(
        threat.norm, batches, samples, radius=REACH * threat.eps, targets=targets, seed=subject.seed
    )  # fmt: skip
    with progress(f"robustness: CLEVER {threat.norm}", len(rows)) as bar:
        found = score(subject.model, subject.images[rows], subject.labels[rows], bar.advance)
    fits = found.p_value[np.isfinite(found.p_value)]
    row = Row("clever", "estimate", str(threat.norm), float(np.median(found.score)), n=len(rows))
    row.low, row.high = (float(v) for v in np.percentile(found.score, [5, 95]))
    row.more = {"radius": score.radius, "batches": batches, "samples": samples, "targets": targets}
    row.more["p_value"] = float(np.median(fits)) if len(fits) else None
    if len(fits) and float((fits < 0.05).mean()) > 0.2:
        row.flags.append(f"the Weibull fit is rejected at 5% for {(fits < 0.05).mean():.0%} of the examples")
    if float((found.score >= score.radius * 0.999).mean()) > 0.5:
        row.flags.append("more than half of the scores reach the radius that was sampled")
    if subject.masked:
        row.flags.append("gradients are zero: this estimate says nothing")
    return Outcome([row])


def smoothing(subject: Subject, sigma: float, count: int, samples: int, eps: dict[str, float]) -> Outcome:
    """Certified accuracy of the *smoothed* classifier; examples that abstain or are wrong are not certified."""
    rows = torch.arange(min(count, len(subject.images)))
    certifier = Smoothing(sigma=sigma, samples=samples, seed=subject.seed)
    answers = [
        certifier.certify(subject.model, subject.images[i], int(i))
        for i in track(rows.tolist(), "robustness: smoothing", len(rows))
    ]
    labels = subject.labels[rows].tolist()
    right = [a.label == y for a, y in zip(answers, labels, strict=True)]
    abstained = sum(a.label < 0 for a in answers)
    size, found = subject.images[0].numel(), []
    about = {"sigma": sigma, "samples": samples, "alpha": certifier.alpha, "abstained": abstained}
    for norm, limit in eps.items():
        for method in ("smoothing", "smoothing_first_order"):
            radii = [_radius(a, norm, size, method) if ok else 0.0 for a, ok in zip(answers, right, strict=True)]
            row = share_row(
                method, "certificate", f"{Threat(norm, limit)}, smoothed classifier", np.array(radii) >= limit
            )
            row.more = about | {"median_radius": float(np.median(radii)), "smoothed_accuracy": float(np.mean(right))}
            row.flags.append("of the classifier that votes over noise, not of the model itself")
            found.append(row)
    return Outcome(found)


def _radius(answer: Smoothed, norm: str, size: int, method: str) -> float:
    return answer.radius(norm, size) if method == "smoothing" else answer.first_order.get(norm, 0.0)


def linear_bounds(subject: Subject, threat: Threat, count: int, most: int) -> Outcome:
    """Certified accuracy and radii of the model itself; says plainly where the bounds say nothing."""
    rows = list(range(min(count, len(subject.images))))
    bounds, reach = LinearBounds(most=most, both=False), REACH * threat.eps
    model, radii = subject.module or subject.model, torch.zeros(len(rows))
    try:
        for i in track(rows, f"robustness: linear bounds {threat.norm}", len(rows)):
            label = int(subject.labels[i])
            radii[i] = bounds.radius(model, subject.images[i], label, threat.norm, reach)
    except CANNOT as error:
        return Outcome([Row("linear_bounds", "certificate", f"{threat}", None, n=0, flags=[_why(error)])])
    row = share_row("linear_bounds", "certificate", f"{threat}", radii >= threat.eps)
    row.more = {"median_radius": float(radii.median()), "largest_tried": reach}
    if float(radii.max()) == 0:
        row.flags.append("vacuous: the bounds are too loose for this network to certify any radius")
    far = subject.distances.get(threat.norm)
    if far is not None and bool((radii > far[: len(radii)] * (1 + 1e-4)).any()):
        row.flags.append("a certificate exceeds an attack: one of the two is wrong")
    return Outcome([row])


def _why(error: Exception) -> str:
    said = str(error).split("\n")[0][:160]
    return f"not bounded: {said}" if isinstance(error, NotBounded) else f"cannot be recorded: {said}"


def semantics(subject: Subject, points: int, count: int, certified: int, most: int) -> Outcome:
    """Accuracy under the worst value of each perturbation's grid, and certified ranges of a few examples."""
    found = []
    for make in track(semantic.ALL, "robustness: semantic", len(semantic.ALL)):
        perturbation = make(points=points)
        if not perturbation.fits(subject.images):
            continue
        images, labels = subject.images[:count], subject.labels[:count]
        smallest = perturbation.attack(subject.model, images, labels, subject.batch_size)
        broken = torch.isfinite(smallest)
        finite = make in (semantic.Translation, semantic.Occlusion)
        threat = f"{perturbation.name} up to {perturbation.reach:g}"
        found.append(share_row(perturbation.name, "certificate" if finite else "attack", threat, ~broken))
        if finite:
            found[-1].flags.append("a finite set, tried completely")
        elif certified and isinstance(perturbation, semantic.Certifiable):
            found += _certified(subject, perturbation, chosen(subject, min(certified, count)), smallest, most)
    return Outcome(found)


def _certified(
    subject: Subject, perturbation: semantic.Certifiable, rows: Tensor, smallest: Tensor, most: int
) -> Iterable[Row]:  # fmt: skip
    if not len(rows):
        return
    bounds = LinearBounds(most=most, both=False)
    model = subject.module or subject.model
    try:
        ranges = [
            perturbation.certify(model, subject.images[i], int(subject.labels[i]), bounds, most=8)
            for i in rows.tolist()
        ]
    except CANNOT as error:
        yield Row(perturbation.name, "certificate", "linear bounds", None, n=0, flags=[_why(error)])
        return
    row = Row(
        perturbation.name, "certificate", f"{perturbation.name}, linear bounds", float(np.median(ranges)), n=len(rows)
    )
    row.low, row.high = min(ranges), max(ranges)
    if any(r > float(s) for r, s in zip(ranges, smallest[rows], strict=True)):
        row.flags.append("a certificate exceeds an attack: one of the two is wrong")
    if max(ranges) == 0:
        row.flags.append("vacuous: the bounds are too loose for this network to certify any range")
    yield row


def corrupted(subject: Subject, severities: tuple[int, ...], count: int) -> Outcome:
    """Mean accuracy of each corruption over the severities, and over all of them."""
    rows, every = [], []
    for name in track(corruptions.CORRUPTIONS, "robustness: corruptions", len(corruptions.CORRUPTIONS)):
        right = []
        for severity in severities:
            images = corruptions.corrupt(name, subject.images[:count], severity, subject.seed)
            right.append(~wrong(subject.logits(images), subject.labels[:count]).cpu())
        row = share_row(name, "estimate", f"corruption, severities {list(severities)}", torch.cat(right))
        row.more = {"by_severity": [float(r.float().mean()) for r in right]}
        rows.append(row)
        every.append(torch.cat(right))
    mean = share_row("corruptions", "estimate", f"all corruptions, severities {list(severities)}", torch.cat(every))
    return Outcome([mean, *rows])
