"""Both loops from one start, on the same batches in the same order, epoch by epoch: how far their losses and prompts agree.

Two loops that are one method give the same numbers until rounding has grown into them. Where ours makes a choice of its own
on purpose (``SWITCHES``), the published classes make the same one here; what each choice is worth is the ladder's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from _peer_methods import Place, Published
from _peer_pairs import Pair
from _peer_runs import ours_trained, trained
from torch import Tensor

from reprogram.hooks import Hook, Run
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.training.base import trainable


class Enough(Exception):
    """The epochs that are compared are done; the schedule is that of a whole run."""


@dataclass
class Track(Hook):
    """Loss of each epoch, and the trained values before the first epoch and after each."""

    epochs: int
    losses: list[float] = field(default_factory=list)
    values: list[list[Tensor]] = field(default_factory=list)
    method: Published | None = None

    def add(self, epoch: int, loss: float, values: Sequence[Tensor]) -> None:
        self.losses.append(loss)
        self.values.append([value.detach().clone() for value in values])
        if epoch + 1 == self.epochs:
            raise Enough

    def watch(self, method: Published, epoch: int, loss: float) -> None:
        self.method = method
        self.add(epoch, loss, method.shared())

    def on_epoch_end(self, run: Run, model: ReprogrammedModel, epoch: int, metrics: dict[str, float]) -> None:
        self.add(epoch, metrics["loss"], trainable(model))


def alike(pair: Pair) -> frozenset[str]:
    """Every choice of ours, and what is left out on both sides."""
    return frozenset({*pair.published.causes} - {"augment"} | {*pair.left_out})


def side_by_side(pair: Pair, task: TargetTask, place: Place, epochs: int, but: str = "") -> dict[str, Any]:
    """Losses of ours, of the published classes around our network, and around the package's, whose BatchNorm rounds apart.

    ``but``: one choice that each side makes in its own way.
    """
    choices = alike(pair) - {but}
    tracks = {"same network": Track(epochs), "package's network": Track(epochs)}
    for track, switches in zip(tracks.values(), (choices, choices - {"folded"}), strict=True):
        with suppress(Enough):
            trained(pair, task, replace(place, switches=switches), track.watch)
    own, theirs = Track(epochs), tracks["same network"]
    still, there = replace(pair, augment=None), replace(place, switches=choices)
    with suppress(Enough):
        ours_trained(still, task, there, "float32", theirs.values[0], [own])
    steps = -(-len(task.train.labels) // pair.published.batch)
    found: dict[str, Any] = {"choices": sorted(choices), "steps": steps, "ours": own.losses}
    for who, track in tracks.items():
        assert track.method is not None
        seen = track.method.visible
        found[who] = track.losses[1:]
        found[f"{who}, program"] = [apart(seen(a), seen(b)) for a, b in zip(own.values, track.values[1:], strict=True)]
    return found


def apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Distance of two sets of trained values, as a share of the length of theirs."""
    a, b = (torch.cat([value.flatten() for value in side]).double() for side in (ours, theirs))
    return float((a - b).norm() / b.norm())
