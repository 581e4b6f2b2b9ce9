"""Poisoned training images: what a trigger that they teach can do to the program, and who finds them.

The images as they were given are inspected; then some are poisoned and the program is learned again, as it was and without
what looks poisoned. ``value`` of such a row is the share of triggered test images of other classes that are not taken to
the label of the attack; with ``success`` beside, what the attack took beyond what went there without a trigger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch

from reprogram.backdoor.triggers.base import Trigger
from reprogram.backdoor.triggers.patch import Patch
from reprogram.backdoor.triggers.sinusoid import Sinusoid
from reprogram.errors import ConfigError
from reprogram.labels.shared_patterns import MOST, find_shared_patterns
from reprogram.ranges import Count, Range
from reprogram.robustness.checks._relearning import RelearningCheck, keep
from reprogram.robustness.checks.base import ALL, Examples, Scope
from reprogram.robustness.findings import Flag, Outcome, Row, share_row

PATCH_SIDE = 3 / 28  # of the image's shorter side
SHOWN = 20  # rows named in a flag


@dataclass
class PoisonedLabels(RelearningCheck):
    """shares: of all training images that carry the trigger. draws: of each share, averaged; each attacks another class.

    Triggers: a patch in a corner of images of other classes, which get the attacked label (BadNets); a sinusoid over images
    of the attacked class, whose labels stay right (Barni et al. 2019, arXiv 1902.11237), of the whole class at most.
    """

    examples: Examples = ALL
    shares: tuple[Annotated[float, Range(0, 1, open=True)], ...] = (0.05, 0.1)
    draws: Count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.shares = tuple(self.shares)
        if not self.shares or not all(0 < share < 1 for share in self.shares):
            raise ConfigError(f"shares={list(self.shares)} must be above 0 and below 1, one at least.")

    def fits(self, model: Any, norm: str | None = None) -> bool:
        if not super().fits(model, norm):
            return False
        assert self.relearner is not None
        return len(self.relearner.labels) <= MOST

    def run(self, model: Any, scope: Scope) -> Outcome:
        assert self.relearner is not None
        images = self.relearner.target.train.batch(range(len(self.relearner.labels)))
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        names = self.relearner.target.info.classes
        rows = [inspected(scope.name, images, self.relearner.labels, names)]
        shown, labels = model.images[: scope.count], model.labels[: scope.count].cpu()
        plain = self.relearner.read(shown)
        for kind in ("patch", "clean_label"):
            found: dict[float, list[dict[str, Any]]] = {share: [] for share in self.shares}
            for seed in range(model.seed, model.seed + self.draws):
                trigger = trigger_of(kind, seed % len(names), images.shape[-2:], seed)
                outputs = (plain, self.relearner.read(trigger(shown)))
                for share in self.shares:
                    found[share].append(self._poisoned(trigger, share, seed, images, outputs, labels))
            for share, draws in found.items():
                rows += poisoned_rows(f"{scope.name}_{kind}", kind, share, len(images), draws)
        return Outcome(rows)

    def _poisoned(
        self, trigger: Trigger, share: float, seed: int, images: torch.Tensor, outputs: Any, truth: torch.Tensor
    ) -> dict[str, Any]:
        """One poisoned set: what its trigger does to the program that learns it, before and after the search."""
        again = self.relearner
        assert again is not None
        labels, poisoned = poison(trigger, again.labels, share, seed)
        triggered = trigger(images[poisoned])
        train = again.changed(poisoned, again.read(triggered))
        seen = images.clone()
        seen[poisoned] = triggered
        every = np.arange(len(labels))
        learned, doubted = again.learned(train, labels, every)
        suspected = np.union1d(doubted, find_shared_patterns(seen, labels).suspected).astype(int)
        cleaned, _ = again.learned(train, labels, keep(every, suspected, labels))
        found: dict[str, Any] = {"found": float(np.isin(poisoned, suspected).mean()), "suspected": len(suspected)}
        others = truth != trigger.target
        for name, output in (("as_poisoned", learned), ("cleaned", cleaned)):
            with torch.no_grad():
                plain, attacked = (output(o).argmax(1).cpu() for o in outputs)
            taken = (attacked == trigger.target) & (plain != trigger.target)
            right = (plain == truth).float().mean()
            found[name] = {"resisted": ~taken[others], "success": float(taken[others].float().mean()), "clean": float(right)}
        return found


def trigger_of(kind: str, target: int, shape: Any, seed: int) -> Trigger:
    """The trigger of an attack on images of this height and width."""
    side = max(2, round(PATCH_SIDE * min(shape)))
    return Patch(target=target, seed=seed, side=side) if kind == "patch" else Sinusoid(target=target, seed=seed)


def poison(trigger: Trigger, labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(labels of the poisoned set, rows that carry the trigger: ``share`` of all, one at least, as many as there are)."""
    able = np.flatnonzero((labels == trigger.target) == trigger.keeps_labels)
    count = max(1, round(share * len(labels)))
    rows = np.sort(np.random.default_rng([seed, round(1000 * share)]).permutation(able)[:count])
    changed = labels.copy()
    changed[rows] = trigger.target
    return changed, rows


def inspected(check: str, images: torch.Tensor, labels: np.ndarray, names: tuple[str, ...]) -> Row:
    """The row about the training images as they were given: which of them share a pattern that other classes lack."""
    found = find_shared_patterns(images, labels).suspected
    flags = []
    if len(found):
        classes = ", ".join(f"'{names[c]}'" for c in np.unique(labels[found]))
        shown = ", ".join(map(str, found[:SHOWN])) + (", …" if len(found) > SHOWN else "")
        flags = [Flag("shared_pattern", f"{len(found)} training images of {classes} share a pattern: rows {shown}")]
    more = {"family": "poison", "size": 0.0, "suspected_rows": [int(row) for row in found]}
    about = f"{len(labels)} training images as given"
    return Row(check, "inspection", about, len(found) / len(labels), n=len(labels), flags=flags, more=more)


def poisoned_rows(check: str, kind: str, share: float, n: int, draws: list[dict[str, Any]]) -> list[Row]:
    """Two rows, means over the draws: the program as it learned from the poisoned set, and without what looked poisoned."""
    what = "a patch and the attacked label" if kind == "patch" else "a sinusoid and their right label"
    about = f"{share:.0%} of {n} training images with {what}"
    rows = []
    for name, suffix, end in (("as_poisoned", "", ""), ("cleaned", "_suspects_left_out", ", suspected ones left out")):
        more: dict[str, Any] = {"family": "poison", "size": share}
        more |= {"success": float(np.mean([d[name]["success"] for d in draws]))}
        more |= {"clean_accuracy": float(np.mean([d[name]["clean"] for d in draws]))}
        more |= {"poisoned_found": float(np.mean([d["found"] for d in draws]))}
        resisted = torch.cat([d[name]["resisted"] for d in draws])
        rows.append(share_row(check + suffix, "estimate", about + end, resisted.float().numpy(), **more))
    return rows
