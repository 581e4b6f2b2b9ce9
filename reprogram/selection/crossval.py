"""Repeated stratified cross-validation of candidates from cached source outputs, by squared error.

Squared error on calibrated probabilities (Brier 1950) named the real winner more often than accuracy did: it sees how
sure a program is, where accuracy on 160 labels moves in steps of half a point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reprogram.interfaces import OutputMapping, SourceOutput, SourceSpec, TargetInfo
from reprogram.modalities import Candidate
from reprogram.model import pick
from reprogram.selection.candidates import make_output
from reprogram.training import brier
from reprogram.training.head import fit_head


@dataclass
class Folds:
    """validation: one bool [N] mask a fold. never: examples that no fold can hold out (a class of one). note: why."""

    validation: list[np.ndarray]
    never: np.ndarray
    note: str = ""


def make_folds(labels: np.ndarray, classes: tuple[str, ...], count: int, repeats: int, seed: int) -> Folds:
    """``repeats`` x ``count`` stratified folds. A class of one example stays in every training part."""
    size = len(labels)
    classed = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    groups = [np.flatnonzero(labels == c) for c in np.unique(labels)] if classed else [np.arange(size)]
    single = [rows for rows in groups if len(rows) == 1] if classed else []
    never = np.zeros(size, bool)
    never[np.concatenate(single) if single else []] = True
    count = max(2, min(count, size - int(never.sum())))
    masks = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        fold, offset = np.full(size, -1), 0
        for rows in groups:
            if classed and len(rows) == 1:
                continue
            fold[rng.permutation(rows)] = (offset + np.arange(len(rows))) % count
            offset += len(rows)
        masks += [fold == f for f in range(count)]
    names = ", ".join(classes[int(labels[rows[0]])] for rows in single)
    note = f"Class {names} has one example: it is trained on but cannot be cross-validated." if single else ""
    return Folds([m for m in masks if m.any()], never, note)


def own_share(labels: np.ndarray, folds: list[np.ndarray]) -> float:
    """Mean binary logarithm of the share of its own class (values: of all labels) that was learned from when an example was
    held out: -1 where half of the class was held out with it."""
    classed = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    groups = labels if classed else np.zeros(len(labels), dtype=int)
    total = np.bincount(groups)
    found = []
    for mask in folds:
        held = np.bincount(groups[mask], minlength=len(total))
        share = np.log2(np.maximum(total - held, 0.5) / np.maximum(total, 1))
        found.append(share[groups[mask]])
    return float(np.concatenate(found).mean()) if found else 0.0


def learn(output: OutputMapping, outputs: list[SourceOutput], labels: Tensor, problem: str, seed: int = 0) -> None:
    """Fit any output mapping on cached outputs: closed form, statistics, or a convex head to its optimum."""
    if output.closed_form:
        output.fit(outputs, labels)
    elif output.statistics:
        output.observe(outputs, labels)
        output.refresh()
    if any(p.requires_grad for p in output.parameters()):
        fit_head(output, outputs, labels, problem, seed)


def out_of_fold(
    candidate: Candidate,
    outputs: list[SourceOutput],
    labels: Tensor,
    folds: list[np.ndarray],
    spec: SourceSpec,
    target: TargetInfo,
    observed: OutputMapping | None = None,
) -> Tensor:
    """Logits [F, N, T] of each fold's held-out examples; NaN where a fold does not hold an example out.

    observed: the built output of a candidate that reads a pool, which it has observed once for all folds.
    """
    found = torch.full((len(folds), len(labels), len(target.classes)), float("nan"))
    for index, mask in enumerate(folds):
        held = torch.from_numpy(np.flatnonzero(mask))
        kept = torch.from_numpy(np.flatnonzero(~mask))
        output = observed or make_output(candidate.output)
        if observed is None:
            output.build(spec, target)
        learn(output, pick(outputs, kept), labels[kept], target.problem)
        with torch.no_grad():
            found[index, held] = output(pick(outputs, held)).float().cpu()
    return found


def probabilities(logits: Tensor, labels: Tensor, target: TargetInfo) -> Tensor:
    """Held-out logits [F, N, T] -> [N, T] probabilities averaged over repeats, on one fitted temperature."""
    known = ~torch.isnan(logits[..., 0])
    if target.problem == "regression":
        return torch.where(known[..., None], logits, torch.zeros(())).sum(0) / known.sum(0)[:, None]
    flat, owner = logits[known], labels.expand(len(logits), *labels.shape)[known]
    squashed = torch.zeros_like(logits)
    squashed[known] = brier.squash(flat * brier.inverse_temperature(flat, owner, target.problem), target.problem)
    return squashed.sum(0) / known.sum(0).clamp(min=1)[:, None]


def averaged(scored: list[Tensor], labels: Tensor, target: TargetInfo) -> Tensor:
    """Held-out logits [F, N, T] of the mean of several candidates, from their own."""
    mean = torch.stack([probabilities(logits, labels, target) for logits in scored]).mean(0)
    logits = mean if target.problem == "regression" else torch.logit(mean, eps=1e-6)
    if target.problem == "classification":
        logits = mean.clamp_min(1e-8).log()
    seen = ~torch.isnan(scored[0][..., 0])
    return torch.where(seen[..., None], logits.expand(len(seen), *logits.shape), torch.tensor(float("nan")))


def squared_error(predicted: Tensor, labels: Tensor, target: TargetInfo) -> Tensor:
    """[N] squared error of probabilities [N, T] (regression: of values); missing labels do not count."""
    return brier.squared_error(predicted, labels, target.problem)
