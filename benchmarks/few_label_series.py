"""Signals with few labels: `program=auto` beside MiniRocket, warping and ridges, on the same draws.

    python benchmarks/few_label_series.py [--draws 10] [--sounds FOLDER] [--cache FOLDER]

All classification sets in the package aeon in their standard split, with 2, 4 and 8 labels a class and with all; with
``--sounds`` recordings in FOLDER/WORD/SPEAKER-TAKE.wav, of the same and of new speakers. Finished cells are kept in the
cache and never computed again; the page has the draws that every set has. Settings were chosen on draws 0 to 9 of the
training parts alone, tested on the rest of them, and on draws 0 to 7 of the sounds; seeds start at ``--first``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import versions
from few_label_series_page import write_results

from reprogram.evaluation.baselines import signals as plain
from reprogram.evaluation.features import CachedSource
from reprogram.hooks import Run
from reprogram.inputs.signal_views import SignalViews
from reprogram.interfaces import SourceOutput, Tap, TargetTask, to_tensor_labels
from reprogram.modalities import modality
from reprogram.model import ReprogrammedModel
from reprogram.outputs.grouped_ridge import GroupedRidge
from reprogram.result import Result
from reprogram.selection.choose import Auto, choose
from reprogram.sources.efficientnet import EfficientNetLite
from reprogram.targets import load_target

SETS: tuple[str, ...] = ("ACSF1", "ArrowHead", "BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels", "OSULeaf")
SETS += ("PickupGestureWiimoteZ",)
SHOTS: tuple[int | None, ...] = (2, 4, 8, None)
HYBRID = "all pictures and the plain signal"


class Bench:
    """Sets, passes that were made once, and finished cells."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.cache = args, Path(args.cache)
        self.cache.mkdir(parents=True, exist_ok=True)
        self.file = self.cache / "cells.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.done = {self.key(json.loads(line)) for line in lines}
        frozen = EfficientNetLite()
        self.sources = {"": frozen, " on random weights": frozen.with_random_weights(0)}

    @staticmethod
    def key(cell: dict[str, Any]) -> tuple[Any, ...]:
        return cell["data"], cell["shots"], cell["seed"], cell["row"]

    def add(self, data: str, shots: int | None, seed: int, row: str, run: Callable[[], np.ndarray], truth: np.ndarray) -> None:
        """Compute one cell unless it is known. run: -> scores [N, T]."""
        cell: dict[str, Any] = {"data": data, "shots": shots, "seed": seed, "row": row}
        if self.key(cell) in self.done:
            return
        started = time.perf_counter()
        right = run().argmax(1) == truth
        cell |= {"accuracy": float(right.mean()), "n": len(truth), "seconds": round(time.perf_counter() - started, 2)}
        with self.file.open("a") as file:
            file.write(json.dumps(cell) + "\n")
        self.done.add(self.key(cell))
        print(f"{data:22} {shots or 'all':>4} {seed:>4} {row:36} {cell['accuracy']:.3f} {cell['seconds']:6.1f} s", flush=True)

    def sets(self) -> None:
        """A draw of every set, then the next: whenever it is stopped, every set has as many draws."""
        known: dict[str, tuple[Reads, np.ndarray]] = {}
        for draw in range(self.args.draws):
            for name in self.args.sets:
                for shots in self.args.shots if draw == 0 else [s for s in self.args.shots if s is not None]:
                    if name not in known:
                        everything = thinned(load_target("ucr", name=name, shots=None), self.args.test)
                        sources = {more: CachedSource(source, 192) for more, source in self.sources.items()}
                        kept = self.cache / f"warping_{name}_{self.args.test}.npy"
                        known[name] = Reads(sources, everything), distances(everything, kept)
                    seed = self.args.first + draw
                    task = thinned(load_target("ucr", name=name, shots=shots, seed=seed), self.args.test)
                    self.programs(name, shots, seed, task, known[name][0])
                    nearest = partial(by_warping, known[name][1], task)
                    self.add(name, shots, seed, "warping+nearest", nearest, task.test.labels)
                    self.plain(name, shots, seed, task)

    def programs(self, data: str, shots: int | None, seed: int, task: TargetTask, reads: Reads) -> None:
        truth = np.asarray(task.test.labels)
        self.add(data, shots, seed, "auto", lambda: reads.auto(task, seed, self.cache), truth)
        for more in self.sources:
            for name in ("all pictures", HYBRID):
                self.add(data, shots, seed, name + more, lambda n=name, m=more: reads.named(task, n, m), truth)

    def plain(self, data: str, shots: int | None, seed: int, task: TargetTask) -> None:
        train, test = plain.read(task.train), plain.read(task.test)
        truth, columns = np.asarray(task.test.labels), len(task.info.classes)
        labels = np.asarray(task.train.labels)
        own = (plain.raw(train), plain.raw(test))
        rocket = lambda: ridge(plain.minirocket(train, test, seed), labels, columns, seed)  # noqa: E731
        self.add(data, shots, seed, "minirocket+ridge", rocket, truth)
        self.add(data, shots, seed, "raw+ridge", partial(ridge, own, labels, columns, seed), truth)

    def sounds(self) -> None:
        """A draw of everything, then the next. What a source answers to a recording is read once for all draws."""
        pattern = r"/([^/]+)-[^/]*$"
        sources = {name: CachedSource(source, 192) for name, source in self.sources.items()}
        for seed in range(self.args.first, self.args.first + self.args.draws):
            for which, groups in (("same speakers", None), ("new speakers", pattern)):
                for shots in (16, 8, 4):
                    split = {"groups": groups, "test_size": 0.4 if groups is None else 0.2, "split_seed": seed}
                    task = load_target("audio_folder", root=self.args.sounds, shots=shots, seed=seed, rate=8000, **split)
                    self.sound(f"spoken digits, {which}", shots, seed, task, Reads(sources, task))

    def sound(self, data: str, shots: int, seed: int, task: TargetTask, reads: Reads) -> None:
        self.programs(data, shots, seed, task, reads)
        labels, truth = np.asarray(task.train.labels), np.asarray(task.test.labels)
        features = [plain.log_mel(part, 8000.0) for part in (task.train, task.test)]
        self.add(data, shots, seed, "log_mel+ridge", partial(ridge, features, labels, 10, seed), truth)


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
    """What sources answer for the test signals of one task: read once, whatever program asks."""

    def __init__(self, sources: dict[str, CachedSource], task: TargetTask) -> None:
        self.sources = sources
        self.test = task.test
        candidates = modality("series").candidates(sources[""].spec, task.info)
        self.candidates = {candidate.name: candidate for candidate in candidates}
        self.pictures = self.candidates[HYBRID].input[1]["pictures"]
        self.features = self.candidates[HYBRID].input[1]["features"]
        self._read: dict[str, list[SourceOutput]] = {}

    def outputs(self, task: TargetTask, more: str) -> list[SourceOutput]:
        if more not in self._read:
            model = self._model(task, self.pictures, self.features, more)
            self._read[more] = model.collect(self.test)
        return self._read[more]

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

    def auto(self, task: TargetTask, seed: int, folder: Path) -> np.ndarray:
        found = choose([self.sources[""]], task, Auto(minutes=60), Run(folder / "auto", seed, Result("auto", seed)))
        return self._scores(found.model.output, self.some(task, found.model.input.config(), ""))

    def named(self, task: TargetTask, name: str, more: str) -> np.ndarray:
        candidate = self.candidates[name]
        config = candidate.input[1]
        model = self._model(task, config["pictures"], config["features"], more)
        output = GroupedRidge(**candidate.output[1])
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


def distances(task: TargetTask, kept: Path) -> np.ndarray:
    """Warping distances [N, n] of test signals to training signals in the order of their file. kept: for the next time."""
    from aeon.distances import dtw_pairwise_distance

    if kept.exists():
        return np.asarray(np.load(kept))
    train, test = (plain.read(part).double().numpy() for part in (task.train, task.test))
    found = np.empty((len(test), len(train)))
    found[:, np.asarray(task.train_rows)] = dtw_pairwise_distance(test, train)
    np.save(kept, found)
    return found


def by_warping(apart: np.ndarray, task: TargetTask) -> np.ndarray:
    """[N, T] one for the class of the nearest training signal."""
    labels = np.asarray(task.train.labels)
    return np.eye(len(task.info.classes))[labels[apart[:, task.train_rows].argmin(1)]]


def ridge(features: Any, labels: np.ndarray, columns: int, seed: int) -> np.ndarray:
    """Scores of the second features by a ridge on the first."""
    return plain.fit_ridge(features[0], labels, columns, seed).scores(features[1])


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
    parser.add_argument("--table", default="docs/results/few_label_series.md")
    args = parser.parse_args()
    args.shots = SHOTS if args.shots is None else tuple(shots or None for shots in args.shots)
    torch.manual_seed(0)
    remember_features()
    bench = Bench(args)
    if args.only in ("all", "sets"):
        bench.sets()
    if args.sounds and args.only in ("all", "sounds"):
        bench.sounds()
    print(json.dumps(write_results(bench.file, Path(args.table)) | {"versions": versions("torch", "aeon")}))


if __name__ == "__main__":
    main()
