"""A target of signals: what is read becomes examples, a split that keeps groups together, and what a report shows of it."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from reprogram.errors import ConfigError, DataError
from reprogram.interfaces import Examples, Featuriser, TargetInfo, TargetTask
from reprogram.modalities._signals import as_block, pad, resampled
from reprogram.ranges import Positive, Seed, Shots, TestSize
from reprogram.registry import load
from reprogram.targets.base import check_classes
from reprogram.targets.leaks import not_tested
from reprogram.targets.splits import draw, fewer_than_asked, hold_out, what_the_split_did
from reprogram.targets.tables import spelling_key

RAW_POINTS = 256  # of each channel, for simple models on the raw signal
MOST_VALUES = 500_000_000  # of a whole target, 2 GB


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """Which signals are learned from.

    shots, labels: labelled examples a class, or in all; both null takes every training example.
    problem: ``auto`` reads labels that are numbers with decimals as values. rate: samples a second. name: in the report.
    """

    shots: Shots = None
    labels: Shots = None
    seed: Seed = 0
    problem: Literal["auto", "classification", "regression"] = "auto"
    rate: Positive | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class SplitOptions(DrawOptions):
    """And which are tested, where there is no test set.

    test_size, split_seed: what is held out. groups: what tells which examples belong together (a speaker, a patient, a
    device), so that none is on both sides.
    """

    test_size: TestSize = 0.2
    split_seed: Seed = 0
    groups: str | None = None


@dataclass
class Signals:
    """What a file or a folder holds. signals: float32 [C, l] each, NaN where a value is missing. labels: texts, None where
    there is none. rows: as the user's file names them. rate: samples a second, None where nobody said."""

    signals: list[np.ndarray]
    labels: list[str | None]
    rows: list[Any]
    groups: list[str] | None = None
    rate: float | None = None
    notes: list[str] = field(default_factory=list)

    def only(self, places: Sequence[int] | np.ndarray) -> Signals:
        """These signals, in this order."""
        picked = [int(place) for place in places]
        groups = None if self.groups is None else [self.groups[i] for i in picked]
        labels, rows = [self.labels[i] for i in picked], [self.rows[i] for i in picked]
        return Signals([self.signals[i] for i in picked], labels, rows, groups, self.rate, self.notes)


@dataclass
class SignalExamples(Examples):
    """Signals in memory. ``labels`` [N]; length: samples that a batch has at least, the shorter ones end in NaN."""

    signals: list[np.ndarray]
    labels: np.ndarray
    length: int

    def batch(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        return torch.from_numpy(pad([self.signals[int(row)] for row in rows], self.length))

    def subset(self, rows: Sequence[int] | np.ndarray) -> SignalExamples:
        rows = np.asarray(rows, dtype=int)
        return SignalExamples([self.signals[int(row)] for row in rows], self.labels[rows], self.length)


class RawSignal(Featuriser):
    """The signal itself, at most 256 points of each channel: what a model without any pretraining sees."""

    models = ("kernel",)

    def __call__(self, batch: Any) -> np.ndarray:
        block = as_block(batch)
        return resampled(block, min(block.shape[2], RAW_POINTS)).flatten(1).numpy()


@dataclass
class SeriesTask(TargetTask):
    """A target of signals. rate: samples a second, None where nobody said."""

    rate: float | None = None

    def featurisers(self) -> dict[str, Featuriser]:
        return {"raw_input": RawSignal()}

    def pictures(self, model: nn.Module) -> dict[str, bytes]:
        """Some test signals, and beside each what the source reads of it."""
        from reprogram.targets._signal_sheet import sheet

        if not len(self.test):
            return {}
        rows = np.unique(np.linspace(0, len(self.test) - 1, 4).astype(int))
        return {"what_the_source_reads": sheet(self.test.batch(rows), model)}

    def checks(self) -> Sequence[Any]:
        """Corruptions and an attack in the signal's own units."""
        return [load("reprogram.robustness", "signals")()] if self.info.problem == "classification" else []


def make_task(found: Signals, test: Signals | None, given: DrawOptions, where: str) -> SeriesTask:
    """A target from everything that was read. where: what the data is called in sentences."""
    for part in (found, *([test] if test is not None else [])):
        _same_channels([*found.signals[:1], *part.signals], where)
    problem, classes = _problem([*found.labels, *(test.labels if test is not None else [])], given, where)
    notes = [*found.notes, *(test.notes if test is not None else []), *_spelled_alike(classes)]
    train, held, split = _parts(found, test, given, (problem, classes), notes)
    values = _labels(train, classes)
    if problem == "classification":
        check_classes(values, classes, where)
    notes += fewer_than_asked(values, given.shots, given.labels, classes)
    chosen = train.only(draw(values, given.seed, given.shots, given.labels))
    length = max((signal.shape[1] for signal in (*chosen.signals, *held.signals)), default=1)
    rate = given.rate or found.rate
    shape = (found.signals[0].shape[0], max(1, round(rate or 1)), length)
    return SeriesTask(
        TargetInfo(given.name or where, "series", problem, classes, shape),
        SignalExamples(chosen.signals, _labels(chosen, classes), length),
        SignalExamples(held.signals, _labels(held, classes), length),
        train_rows=chosen.rows,
        test_rows=held.rows,
        split=split | {"test_size": len(held.rows)},
        notes=notes,
        rate=rate,
    )


def _parts(
    found: Signals, test: Signals | None, given: DrawOptions, kind: tuple[str, tuple[str, ...]], notes: list[str]
) -> tuple[Signals, Signals, dict[str, Any]]:
    """(signals to draw from, signals to test on, how they were split). The same signal is never on both sides."""
    if test is not None:
        train, held, split = found, test, dict[str, Any](kind="given")
    else:
        assert isinstance(given, SplitOptions)
        labels = _labels(found, kind[1])
        if given.groups is not None:
            if found.groups is None:
                raise ConfigError(f"target.groups={given.groups}: these signals have no groups.")
            rows, out = hold_out_groups(found.groups, given.test_size, given.split_seed)
            split = {"kind": "groups", "groups": sorted({found.groups[i] for i in out}), "seed": given.split_seed}
        else:
            rows, out = hold_out(labels, given.test_size, given.split_seed)
            split = {"kind": "stratified", "seed": given.split_seed}
        notes += what_the_split_did(labels, out, kind[1])
        train, held = found.only(rows), found.only(out)
    new = not_tested([digest(signal) for signal in train.signals], [digest(signal) for signal in held.signals])
    if not new.all():
        notes.append(f"{int((~new).sum())} training signals are also test signals: not used for training.")
        train = train.only(np.flatnonzero(new))
    if not train.signals or not held.signals:
        raise DataError("There are no signals left to learn from, or none to test on.")
    return train, held, split


def hold_out_groups(groups: Sequence[str], test_size: int | float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train rows, test rows): whole groups in random order, until the test has ``test_size`` examples (or that share).

    At least one group is on each side, however large the groups are. Raises DataError where there is one group only.
    """
    names, members = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    if len(names) < 2:
        raise DataError(f"target.groups finds one group only ('{names[0]}'); two are needed for a split between groups.")
    counts = np.bincount(members)
    wanted = test_size if test_size >= 1 else test_size * len(members)
    chosen, taken = np.zeros(len(names), dtype=bool), 0
    for group in np.random.default_rng(seed).permutation(len(names)):
        if taken and (taken + counts[group] / 2 > wanted or chosen.sum() == len(names) - 1):
            break
        chosen[group] = True
        taken += counts[group]
    return np.flatnonzero(~chosen[members]), np.flatnonzero(chosen[members])


def _same_channels(signals: Sequence[np.ndarray], where: str) -> None:
    if not signals:
        raise DataError(f"{where} has no signals.")
    channels = {signal.shape[0] for signal in signals}
    if len(channels) > 1:
        raise DataError(f"{where} has signals of {min(channels)} and of {max(channels)} channels; all need the same.")
    if sum(signal.size for signal in signals) > MOST_VALUES:
        raise DataError(f"{where} has more than {MOST_VALUES:,} values; take fewer or shorter signals, or a lower rate.")


def _problem(labels: Sequence[str | None], given: DrawOptions, where: str) -> tuple[str, tuple[str, ...]]:
    """(classification or regression, names of the columns)."""
    known = sorted({label for label in labels if label is not None})
    numbers = [as_number(label) for label in known]
    all_numbers = bool(known) and all(number is not None for number in numbers)
    measured = all_numbers and any(number != round(number) for number in numbers if number is not None)
    if given.problem == "regression" or (given.problem == "auto" and measured):
        if not all_numbers:
            wrong = next(label for label, number in zip(known, numbers, strict=True) if number is None)
            raise DataError(f"{where} has the label '{wrong}', which is no number; regression needs numbers.")
        return "regression", ("value",)
    if all_numbers:
        known = [label for _, label in sorted(zip(numbers, known, strict=True))]  # type: ignore[type-var]
    if len(known) == 1:
        raise DataError(f"{where} has only the class '{known[0]}'; at least two classes are needed.")
    return "classification", tuple(known)


def _spelled_alike(classes: Sequence[str]) -> list[str]:
    """A note on classes that differ by case alone."""
    names: dict[str, list[str]] = {}
    for name in classes:
        names.setdefault(spelling_key(name), []).append(name)
    alike = [" and ".join(f"'{name}'" for name in same) for same in names.values() if len(same) > 1]
    told = f"Classes that differ by their spelling alone: {'; '.join(alike[:10])}; write them alike to make them one."
    return [told] if alike else []


def _labels(found: Signals, classes: tuple[str, ...]) -> np.ndarray:
    if len(classes) == 1:
        return np.array([float(str(label)) for label in found.labels], dtype=np.float32)
    place = {name: column for column, name in enumerate(classes)}
    return np.array([place[str(label)] for label in found.labels], dtype=np.int64)


def as_number(text: str) -> float | None:
    """None for what is no finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def digest(signal: np.ndarray) -> Hashable:
    """Of the values, by which the same signal is recognised."""
    return hashlib.blake2b(np.ascontiguousarray(signal).tobytes(), digest_size=16).digest()
