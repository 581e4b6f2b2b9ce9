"""Where a source has no tokens for the target's strings: learned maps of target tokens, raced in front of it.

A chemistry model reads a peptide as a row of unknown tokens. A map gives each target token an embedding that the source
knows, and pays only there: a source that reads the strings loses nothing worth the training. So the race is run for
sources that have no token for a share ``FOREIGN`` of the characters. Successive halving: every map is trained for a few
epochs on part of the labels; the one with the least error on the rest is trained fully, once for each of few folds, so that
what is scored was never trained on. Where time is short, no trial is made that leaves none for a training, and the map is
judged, and everything else beside it, on the labels of those folds that fit. A training that is still under way when the
time of the search is over ends with its epoch and does not count. Measured: docs/results/cross_domain.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprogram.hooks import Hook, Run
from reprogram.interfaces import InputTransformation, OutputMapping, SourceModel, TargetTask, to_tensor_labels
from reprogram.modalities import Candidate, modality
from reprogram.modalities.base import Named
from reprogram.modalities.batches import is_strings
from reprogram.modalities.text import as_it_starts
from reprogram.model import ReprogrammedModel
from reprogram.selection.candidates import make_input, make_output
from reprogram.selection.crossval import Folds, squared_error
from reprogram.selection.failures import FAILURES, failed
from reprogram.tokenization import TargetTokens, splitter
from reprogram.training.backpropagation import Backpropagation
from reprogram.training.loop import Training, fit

UNKNOWN_ID = 0  # of TargetTokens
FOREIGN = 0.05  # share of the characters of training strings without a token of the source
TRIAL, WHOLE, BATCH = 4, 10, 16  # epochs of a trial and of a training, examples a step
TRAININGS = 3  # of the best map, each on the labels outside a group of folds
RATES = {"dense_token_map": 0.002}  # learning rate of Adam; a dense map moves all source tokens at once
RATE = 0.01
SLACK = 1.3  # a training may be this much slower than the trial says


@dataclass
class MapRace:
    """Rows of the search's table, held-out logits [F, N, T] of what was trained fully, its candidates, and the names of
    those that the clock kept out."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    scored: dict[str, Tensor] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)


def unread_share(source: SourceModel, target: TargetTask) -> float:
    """Share of the characters of the training strings that no token of the source stands for, read as they are or with the
    target's tokens apart, whichever it reads better; 0 for sources without a vocabulary, and for strings that the tokens of
    a map do not write either."""
    vocabulary, maps = source.spec.vocabulary, modality(target.info.kind).maps
    if vocabulary is None or vocabulary.unread is None or not maps:
        return 0.0
    strings = target.train.batch(range(len(target.train)))
    if not is_strings(strings):
        return 0.0
    tokens = maps[0][1]["tokens"]
    known = TargetTokens(tokens)
    ids = [i for text in strings for i in known.encode(text)]
    if not ids or ids.count(UNKNOWN_ID) > FOREIGN * len(ids):
        return 0.0
    found, split = [], splitter(tokens)
    for read in (strings, [" ".join(split(text)) for text in strings]):
        missing, total = np.array(vocabulary.unread(read)).sum(0)
        found.append(float(missing / max(total, 1)))
    return min(found)


def untrained(target: TargetTask, source: int) -> list[Candidate]:
    """The first map as it starts, with several layers behind it, and with their mean with a Gaussian process."""
    return as_it_starts(modality(target.info.kind).maps[0], _behind(target), source)


def _behind(target: TargetTask) -> Named:
    return "ridge_taps", {"balanced": target.info.problem != "regression"}


class OutOfTime(Exception):
    """The time of the search is over."""


@dataclass
class Deadline(Hook):
    """Ends a training with the epoch in which the time runs out. left: seconds that remain."""

    left: Callable[[], float]

    def on_epoch_end(self, run: Run, model: ReprogrammedModel, epoch: int, metrics: dict[str, float]) -> None:
        if self.left() <= 0:
            raise OutOfTime


def train_map(
    candidate: Candidate,
    source: SourceModel,
    target: TargetTask,
    rows: np.ndarray,
    seed: int,
    epochs: int = WHOLE,
    hooks: tuple[Hook, ...] = (),
) -> ReprogrammedModel:
    """The map trained under a linear layer on these training rows, then the candidate's own output fitted behind it."""
    known, info = target.train.subset(rows), target.info
    before: InputTransformation = make_input(candidate.input)
    model = ReprogrammedModel(source, before, make_output(("linear_features", {})), info)
    rate = RATES.get(candidate.input[0], RATE)
    training = Training(epochs=epochs, batch_size=BATCH, optimiser=Backpropagation(learning_rate=rate))
    fit(model, known, training, seed, hooks=hooks)
    behind: OutputMapping = make_output(candidate.output)
    behind.build(source.spec, info)
    whole = ReprogrammedModel(source, before.eval(), behind, info, build=False)
    behind.fit(whole.collect(known), to_tensor_labels(known.labels))
    whole.settle()
    return whole.eval()


class Maps:
    """The race of one source."""

    def __init__(
        self, source: SourceModel, index: int, target: TargetTask, folds: Folds, seed: int, left: Callable[[], float]
    ) -> None:
        self.source, self.index, self.target, self.folds = source, index, target, folds
        self.seed, self.left = seed, left
        self.found = MapRace()

    def run(self, label: Callable[[Candidate], str]) -> MapRace:
        """Trials, then the best of them with nested folds. label: what the search calls a candidate."""
        best: tuple[float, Candidate, float, str] | None = None
        for name, options in modality(self.target.info.kind).maps:
            method: Named = (name, options)
            candidate = Candidate(
                f"layers, trained {name}", method, _behind(self.target), (method,), source=self.index, tags=("trained", "map")
            )
            row = self.found.rows[label(candidate)] = {"kind": "program", "status": "skipped", "why": ""}
            if self.left() <= (0.0 if best is None else SLACK * best[2] * (1 + WHOLE / TRIAL)):  # a training comes after it
                self.found.cut.add(label(candidate))
                row["why"] = "a trial and a training did not fit into the time left"
                continue
            started = time.monotonic()
            try:
                error = self.trial(candidate)
            except OutOfTime:
                self.found.cut.add(label(candidate))
                row["why"] = "the time was over before its trial"
                continue
            except FAILURES as reason:
                row |= failed(reason)
                continue
            seconds = time.monotonic() - started
            row |= {"seconds": seconds, "why": f"held-out squared error after a trial {error:.3f}: another map was better"}
            if best is None or error < best[0]:
                best = (error, candidate, seconds, label(candidate))
        if best is not None:
            self.enter(*best)
        return self.found

    def trial(self, candidate: Candidate) -> float:
        """Held-out squared error after a few epochs."""
        held = self.groups()[0]
        model = train_map(candidate, self.source, self.target, np.flatnonzero(~held), self.seed, TRIAL, (Deadline(self.left),))
        return float(self.errors(model, held).mean())

    def errors(self, model: ReprogrammedModel, held: np.ndarray) -> np.ndarray:
        test = self.target.train.subset(np.flatnonzero(held))
        with torch.no_grad():
            predicted = model.probabilities(model.logits(test, description="judging the map"))
        return squared_error(predicted, to_tensor_labels(test.labels), self.target.info).numpy()

    def groups(self) -> list[np.ndarray]:
        """Few validation masks [N] made of the folds of the search."""
        parts = np.array_split(np.arange(len(self.folds.validation)), min(TRAININGS, len(self.folds.validation)))
        masks = [np.any([self.folds.validation[i] for i in part], axis=0) for part in parts]
        seen, apart = np.zeros_like(masks[0]), []
        for mask in masks:  # repeats hold an example out again; once is enough
            apart.append(mask & ~seen)
            seen |= mask
        return [mask for mask in apart if mask.any()]

    def enter(self, error: float, candidate: Candidate, seconds: float, name: str) -> None:
        """Held-out answers of the best map, trained once for each group of folds."""
        row, groups = self.found.rows[name], self.groups()
        each = SLACK * seconds * WHOLE / TRIAL
        fit_in = groups[: max(int(self.left() / max(each, 1e-9)), 0)]
        if not fit_in:
            self.found.cut.add(name)
            row["why"] = f"best in a trial ({error:.3f}), but {each:.0f} s of training did not fit into the time left"
            return
        size = (len(self.folds.validation), len(self.target.train), len(self.target.info.classes))
        logits = torch.full(size, float("nan"))
        started = time.monotonic()
        judged = self.judge(candidate, fit_in, logits)
        if judged < len(groups):
            self.found.cut.add(name)
        if not judged:
            row["why"] = f"best in a trial ({error:.3f}), but the time was over before it was trained"
            return
        part = "" if judged == len(groups) else f", trained for {judged} of {len(groups)} groups of folds in the time left"
        row |= {"status": "scored", "why": f"best in a trial ({error:.3f}){part}", "passes": 1}
        row["seconds"] += time.monotonic() - started
        self.found.scored[name] = logits
        self.found.candidates.append(candidate)

    def judge(self, candidate: Candidate, groups: list[np.ndarray], logits: Tensor) -> int:
        """Writes the held-out answers of each group into ``logits`` [F, N, T]; how many the clock let it train."""
        for index, held in enumerate(groups):
            kept, hooks = np.flatnonzero(~held), (Deadline(self.left),)
            try:
                model = train_map(candidate, self.source, self.target, kept, self.seed, WHOLE, hooks)
            except OutOfTime:
                return index
            logits[index, torch.from_numpy(held)] = model.logits(self.target.train.subset(np.flatnonzero(held)))
        return len(groups)
