"""Wrong labels: the accuracy with a share of the training labels flipped, with and without the suspected ones left out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import numpy as np
import torch

from reprogram.errors import ConfigError
from reprogram.evaluation.metrics import wilson
from reprogram.ranges import Count, Range
from reprogram.robustness.checks._relearning import RelearningCheck, keep
from reprogram.robustness.checks.base import ALL, Examples, Scope
from reprogram.robustness.findings import Outcome, Row


@dataclass
class FlippedLabels(RelearningCheck):
    """shares: of the training labels that get another class, drawn evenly over the labels. draws: of each share, averaged.

    Suspected labels are those that the program's own left-out answers contradict (:mod:`reprogram.labels.suspects`).
    """

    examples: Examples = ALL
    shares: tuple[Annotated[float, Range(0, 1, open=True)], ...] = (0.05, 0.1, 0.2)
    draws: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shares = tuple(self.shares)
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ConfigError(f"shares={list(self.shares)} must be above 0 and below 1, one at least.")

    def suits(self, changes: str) -> bool:
        return True

    def run(self, model: Any, scope: Scope) -> Outcome:
        assert self.relearner is not None
        labels = model.labels[: scope.count].cpu()
        shown = getattr(model, "texts", None) or model.images
        outputs = self.relearner.read(shown[: scope.count])
        rows = []
        for share in self.shares:
            right, cleaned, found, flipped = [], [], 0, 0
            for draw in range(self.draws):
                changed, wrong = flip(self.relearner.labels, share, len(self.relearner.target.info.classes), model.seed + draw)
                every = np.arange(len(changed))
                answers, suspected = self.relearner.answers(outputs, changed, every)
                kept = keep(every, suspected, changed)
                without, _ = self.relearner.answers(outputs, changed, kept)
                right.append(answers == labels)
                cleaned.append(without == labels)
                found, flipped = found + len(np.intersect1d(suspected, wrong)), flipped + len(wrong)
            about = f"{share:.0%} of {len(self.relearner.labels)} training labels flipped"
            more = {"family": "labels", "size": share, "flipped_labels_found": found / max(flipped, 1)}
            rows.append(_row(scope.name, about, torch.stack(right), more))
            rows.append(_row(f"{scope.name}_suspects_left_out", f"{about}, suspected ones left out", torch.stack(cleaned), more))
        return Outcome(rows)

    def config(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"shares": list(self.shares)}


def flip(labels: np.ndarray, share: float, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels with ``share`` of them, at least one, of another class drawn evenly; rows that were flipped)."""
    rng = np.random.default_rng([seed, round(1000 * share)])
    rows = rng.permutation(len(labels))[: max(1, round(share * len(labels)))]
    changed = labels.copy()
    changed[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return changed, rows


def _row(name: str, about: str, right: torch.Tensor, more: dict[str, Any]) -> Row:
    """Mean over the draws; the interval is that of the test examples, which all draws share."""
    value, n = float(right.float().mean()), right.shape[1]
    interval = wilson(round(value * n), n)
    low, high = (interval[end] if interval[end] is not None else value for end in ("low", "high"))
    return Row(name, "estimate", about, value, min(low or 0.0, value), max(high or 0.0, value), n, more=dict(more))
