"""Signals with few labels: `program=auto` beside MiniRocket, warping and ridges, on the same draws.

    python benchmarks/few_label_series.py [--draws 10] [--sounds FOLDER] [--cache FOLDER]

All classification sets in the package aeon in their standard split, with 2, 4 and 8 labels a class and with all; with
``--sounds`` recordings in FOLDER/WORD/SPEAKER-TAKE.wav, of the same and of new speakers. Finished cells are kept in the
cache and never computed again; the page has the draws that every set has. ``program=auto`` has one candidate for signals
that a source with layers reads; it is fitted here as there, without the estimate that a search makes beside. Settings were
chosen on draws 0 to 9 of the training parts alone, tested on the rest of them (``--parts --first 0``), and on draws 0 to 7 of
the sounds; seeds start at ``--first``. ``--jobs`` processes compute side by side, what matters most first.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import append_line, read_lines, side_by_side, versions
from few_label_series_page import write_results
from torch import Tensor

from reprogram.evaluation.baselines import signals as plain
from reprogram.evaluation.features import CachedSource
from reprogram.inputs.signal_views import SignalViews
from reprogram.interfaces import SourceOutput, Tap, TargetTask, to_tensor_labels
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel, pick
from reprogram.outputs.grouped_ridge import GroupedRidge
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets import load_target

SETS: tuple[str, ...] = ("ACSF1", "ArrowHead", "BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels", "OSULeaf")
SETS += ("PickupGestureWiimoteZ",)
SHOTS: tuple[int | None, ...] = (2, 4, 8, None)
MAIN = ("auto", "minirocket+ridge", "log_mel+ridge")  # rows that come first
SPEAKERS = {"same speakers": None, "new speakers": r"/([^/]+)-[^/]*$"}
MOST = 1000  # signals of a training part that are read


class Unit(NamedTuple):
    """Cells that one process computes together. data: a set, or which speakers."""

    data: str
    shots: int | None
    seed: int
    rows: frozenset[str] | None  # None: all


def units(args: argparse.Namespace) -> list[Unit]:
    """What matters most first; a draw of everything, then the next, so that an interrupted run has as many of each."""
    few, many = ([s for s in args.shots if s in some] for some in ((2, 4), (8, None)))
    other = [s for s in args.shots if s not in (2, 4, 8, None)]
    seeds = range(args.first, args.first + args.draws)
    found = []
    for rows in (frozenset(MAIN), None):
        if args.only in ("all", "sets"):
            for some in (many, few, other):
                whole = [(shots, seed) for seed in seeds for shots in some if shots or args.parts or seed == args.first]
                found += [Unit(name, shots, seed, rows) for shots, seed in whole for name in args.sets]
        if args.sounds and args.only in ("all", "sounds"):
            found += [Unit(which, shots, seed, rows) for seed in seeds for shots in (16, 8, 4) for which in SPEAKERS]
    return found


class Bench:
    """Sets, passes that were made once, and finished cells."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.cache = args, Path(args.cache)
        self.cache.mkdir(parents=True, exist_ok=True)
        self.file = self.cache / "cells.jsonl"
        self.done: set[tuple[Any, ...]] = set()
        frozen = EfficientNetLite()
        self.sources = {"": frozen, " on random weights": frozen.with_random_weights(0)}
        self.of_sounds = {more: CachedSource(source, 192) for more, source in self.sources.items()}
        self.sets: dict[str, Reads] = {}
        self.wanted: frozenset[str] | None = None

    @staticmethod
    def key(cell: dict[str, Any]) -> tuple[Any, ...]:
        return cell["data"], cell["shots"], cell["seed"], cell["row"]

    def add(self, data: str, shots: int | None, seed: int, row: str, run: Callable[[], np.ndarray], truth: np.ndarray) -> None:
        """Compute one cell unless it is known. run: -> scores [N, T]."""
        cell: dict[str, Any] = {"data": data, "shots": shots, "seed": seed, "row": row}
        if self.key(cell) in self.done or (self.wanted is not None and row not in self.wanted):
            return
        started = time.perf_counter()
        right = run().argmax(1) == truth
        cell |= {"accuracy": float(right.mean()), "n": len(truth), "seconds": round(time.perf_counter() - started, 2)}
        append_line(self.file, json.dumps(cell))
        self.done.add(self.key(cell))
        print(f"{data:22} {shots or 'all':>4} {seed:>4} {row:36} {cell['accuracy']:.3f} {cell['seconds']:6.1f} s", flush=True)

    def compute(self, unit: Unit) -> None:
        self.wanted = unit.rows
        self.done = {self.key(cell) for cell in read_lines(self.file)}  # also those of other processes
        if unit.data in SPEAKERS:
            self.sound(unit)
        else:
            self.set(unit)

    def set(self, unit: Unit) -> None:
        name, shots, seed, _ = unit
        if name not in self.sets:
            whole = load_target("ucr", name=name, shots=None)
            everything = replace(whole, test=whole.train, test_rows=whole.train_rows) if self.args.parts else whole
            everything = thinned(everything, MOST if self.args.parts else self.args.test)
            kept = self.cache / f"{name}_{'parts' if self.args.parts else self.args.test}"
            sources = {more: CachedSource(source, 192) for more, source in self.sources.items()}
            self.sets = {name: Reads(sources, everything, kept)}  # the last one alone: they are large
        reads = self.sets[name]
        if self.args.parts:
            task, reads.rows = part(reads.task, shots, seed)
        else:
            task = thinned(load_target("ucr", name=name, shots=shots, seed=seed), self.args.test)
        self.programs(name, shots, seed, task, reads)
        if not self.args.parts:
            nearest = partial(by_warping, reads, task)
            self.add(name, shots, seed, "warping+nearest", nearest, task.test.labels)
        self.plain(name, shots, seed, task)

    def programs(self, data: str, shots: int | None, seed: int, task: TargetTask, reads: Reads) -> None:
        truth = np.asarray(task.test.labels)
        for more in self.sources:
            for name in reads.programs:
                self.add(data, shots, seed, name + more, partial(reads.named, task, name, more), truth)

    def plain(self, data: str, shots: int | None, seed: int, task: TargetTask) -> None:
        train, test = plain.read(task.train), plain.read(task.test)
        truth, columns = np.asarray(task.test.labels), len(task.info.classes)
        labels = np.asarray(task.train.labels)
        own = (plain.raw(train), plain.raw(test))
        rocket = lambda: ridge(plain.minirocket(train, test, seed), labels, columns, seed)  # noqa: E731
        self.add(data, shots, seed, "minirocket+ridge", rocket, truth)
        self.add(data, shots, seed, "raw+ridge", partial(ridge, own, labels, columns, seed), truth)

    def sound(self, unit: Unit) -> None:
        """What a source answers to a recording is read once for all draws."""
        groups = SPEAKERS[unit.data]
        split = {"groups": groups, "test_size": 0.4 if groups is None else 0.2, "split_seed": unit.seed}
        task = load_target("audio_folder", root=self.args.sounds, shots=unit.shots, seed=unit.seed, rate=8000, **split)
        data, shots, seed = f"spoken digits, {unit.data}", unit.shots, unit.seed
        self.programs(data, shots, seed, task, Reads(self.of_sounds, task))
        labels, truth = np.asarray(task.train.labels), np.asarray(task.test.labels)

        def log_mel() -> np.ndarray:
            return ridge([plain.log_mel(some, 8000.0) for some in (task.train, task.test)], labels, 10, seed)

        self.add(data, shots, seed, "log_mel+ridge", log_mel, truth)


def remember_features() -> None:
    """Plain features of a signal are computed once, whatever draw or program asks for them."""
    compute: Any = SignalViews.side_features
    known: dict[bytes, dict[Tap, torch.Tensor]] = {}

    def side_features(reader: SignalViews, batch: torch.Tensor) -> dict[Tap, torch.Tensor]:
        if not reader.features:
            return {}
        options = repr((reader.features, reader.stretch, reader.rate)).encode()
        keys = [blake2b(options + signal.numpy().tobytes()).digest() for signal in batch]
        new = [row for row, key in enumerate(keys) if key not in known]
        for tap, values in (compute(reader, batch[new]) if new else {}).items():
            for row, value in zip(new, values, strict=True):
                known.setdefault(keys[row], {})[tap] = value.clone()
        return {tap: torch.stack([known[key][tap] for key in keys]) for tap in known[keys[0]]}

    SignalViews.side_features = side_features  # type: ignore[method-assign,assignment]


class Reads:
    """What sources answer for the test signals of one task: read once, whatever program asks, by whichever process.

    kept: beginning of the names of files that hold it; None: read again. rows: of the test signals that count; None: all.
    """

    def __init__(self, sources: dict[str, CachedSource], task: TargetTask, kept: Path | None = None) -> None:
        self.sources, self.task, self.kept = sources, task, kept
        self.rows: np.ndarray | None = None
        (auto,) = modality("series").candidates(sources[""].spec, task.info)
        self.pictures, self.features = auto.input[1]["pictures"], auto.input[1]["features"]
        self.programs: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "auto": (auto.input[1], auto.output[1]),
            "all pictures": ({"pictures": self.pictures, "features": []}, {}),
        }  # options of input and output
        self._read: dict[str, list[SourceOutput]] = {}

    def outputs(self, task: TargetTask, more: str) -> list[SourceOutput]:
        if more not in self._read:
            model = self._model(task, self.pictures, self.features, more)
            self._read[more] = remembered(self._file(more + ".pt"), lambda: model.collect(self.task.test))
        found = self._read[more]
        return found if self.rows is None else pick(found, torch.from_numpy(self.rows))

    def _file(self, end: str) -> Path | None:
        return None if self.kept is None else self.kept.with_name(self.kept.name + end.replace(" ", "_"))

    def warping(self) -> np.ndarray:
        found: Tensor = remembered(self._file("_warping.pt"), lambda: torch.from_numpy(distances(self.task)))
        return found.numpy()

    def _model(self, task: TargetTask, pictures: list[str], features: list[str], more: str) -> ReprogrammedModel:
        reader = SignalViews(pictures=tuple(pictures), features=tuple(features))
        return ReprogrammedModel(self.sources[more], reader, GroupedRidge(), task.info).eval()

    def some(self, task: TargetTask, config: dict[str, Any], more: str) -> list[SourceOutput]:
        """Of these pictures, with these features alone."""
        found = []
        for name in config["pictures"]:
            seen = self.outputs(task, more)[self.pictures.index(name)]
            taps = {t: v for t, v in seen.taps.items() if t.pooling != "side" or t.layer in config["features"]}
            found.append(SourceOutput(seen.logits, seen.features, taps))
        return found

    def named(self, task: TargetTask, name: str, more: str) -> np.ndarray:
        config, options = self.programs[name]
        model = self._model(task, config["pictures"], config["features"], more)
        output = GroupedRidge(**options)
        output.build(self.sources[more].spec, task.info)
        output.fit(model.collect(task.train), to_tensor_labels(task.train.labels))
        return self._scores(output, self.some(task, config, more))

    @staticmethod
    @torch.no_grad()
    def _scores(output: Any, outputs: list[SourceOutput]) -> np.ndarray:
        return output(outputs).numpy()


def thinned(task: TargetTask, most: int) -> TargetTask:
    """At most so many test examples, the same for every draw."""
    kept = np.sort(np.random.default_rng(0).permutation(len(task.test))[:most])
    task.test, task.test_rows = task.test.subset(kept), [task.test_rows[i] for i in kept]
    return task


def part(task: TargetTask, shots: int | None, seed: int) -> tuple[TargetTask, np.ndarray]:
    """Labels from the training signals, at most ``shots`` a class (None: three of four), tested on the rest; and its rows."""
    labels, random = np.asarray(task.test.labels), np.random.default_rng(seed)
    taken: list[int] = []
    for each in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == each))
        count = shots or max(1, round(0.75 * len(rows)))
        taken += list(rows[: min(count, len(rows) - 1)])
    rest = np.setdiff1d(np.arange(len(labels)), taken)
    learned = np.sort(taken)
    found = replace(task, train=task.test.subset(learned), test=task.test.subset(rest))
    found.train_rows, found.test_rows = ([task.test_rows[i] for i in rows] for rows in (learned, rest))
    return found, rest


def remembered(kept: Path | None, compute: Callable[[], Any]) -> Any:
    """What ``compute`` gives (tensors, source outputs), from the file where it is there."""
    if kept is not None and kept.exists():
        with torch.serialization.safe_globals([SourceOutput, Tap]):
            return torch.load(kept, weights_only=True)
    found = compute()
    if kept is not None:
        begun = kept.with_name(f"{kept.name}.{os.getpid()}")
        torch.save(found, begun)
        begun.replace(kept)
    return found


def distances(task: TargetTask) -> np.ndarray:
    """Warping distances [N, n] of test signals to training signals in the order of their file."""
    from aeon.distances import dtw_pairwise_distance

    train, test = (plain.read(some).double().numpy() for some in (task.train, task.test))
    found = np.empty((len(test), len(train)))
    found[:, np.asarray(task.train_rows)] = dtw_pairwise_distance(test, train)
    return found


def by_warping(reads: Reads, task: TargetTask) -> np.ndarray:
    """[N, T] one for the class of the nearest training signal."""
    labels = np.asarray(task.train.labels)
    apart = reads.warping()
    return np.eye(len(task.info.classes))[labels[apart[:, task.train_rows].argmin(1)]]


def ridge(features: Any, labels: np.ndarray, columns: int, seed: int) -> np.ndarray:
    """Scores of the second features by a ridge on the first."""
    return plain.fit_ridge(features[0], labels, columns, seed).scores(features[1])


@lru_cache(maxsize=1)
def bench_of(**options: Any) -> Bench:
    """The benchmark of this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    remember_features()
    return Bench(argparse.Namespace(**options))


def compute(options: dict[str, Any], unit: Unit) -> None:
    bench_of(**options).compute(unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10, help="of the labels, for each number of them")
    parser.add_argument("--first", type=int, default=100, help="seed of the first draw")
    parser.add_argument("--test", type=int, default=300, help="test signals of a set, at most")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--shots", type=int, nargs="*", help="labels a class, 0: all; default: 2 4 8 0")
    parser.add_argument("--sounds", help="folder WORD/SPEAKER-TAKE.wav")
    parser.add_argument("--cache", default="outputs/few_label_series")
    parser.add_argument("--only", choices=["all", "sets", "sounds", "table"], default="all")
    parser.add_argument("--parts", action="store_true", help="draws of the training parts, tested on the rest of them")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--machine", default="", help="where the cells were computed, for the page")
    parser.add_argument("--table", default="docs/results/few_label_series.md")
    args = parser.parse_args()
    args.shots = SHOTS if args.shots is None else tuple(shots or None for shots in args.shots)
    args.sets, table = tuple(args.sets), Path(args.table)
    if args.only != "table":
        for _ in side_by_side(partial(compute, vars(args)), units(args), args.jobs):
            pass
    if args.parts:
        return
    file = Path(args.cache) / "cells.jsonl"
    print(json.dumps(write_results(file, table, args.machine) | {"versions": versions("torch", "aeon")}))


if __name__ == "__main__":
    main()
