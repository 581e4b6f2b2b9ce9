"""Few labels for molecules and peptides: programs on a frozen English encoder beside what a chemist would run.

    python benchmarks/few_label_sequences.py --bbbp PATH --esol PATH [--labels 16 64 256] [--seeds 20] [--cache FOLDER]

Targets: BBBP, ESOL (regression), B3DB, AMP. Every molecule is read as its canonical SMILES. A seed draws the split (20%
test, stratified or by scaffold) and the labels. Finished cells are kept in FOLDER/cells.jsonl and never computed again; the
table in docs/results/ is written from them. What the programs are was chosen on seeds 100 to 205, never on those reported.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import append_line, read_lines
from few_label_sequences_table import write_table
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from molecules.featurisers import ECFP4, Descriptors
from molecules.inputs.smiles import randomized_smiles
from molecules.targets import b3db, molecules_csv
from reprogram.evaluation.simple_models import fit_predict
from reprogram.featurisers import Composition, KMers
from reprogram.interfaces import OutputMapping, SourceModel, SourceOutput, Tap, TargetInfo, to_tensor_labels
from reprogram.outputs.gaussian_process import GaussianProcessMapping
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.progress import track
from reprogram.sources.minilm import MiniLM
from reprogram.targets.amp import amp
from reprogram.targets.base import StringExamples, draw, hold_out

POOLINGS = ("mean", "max", "std")
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


@dataclass
class Data:
    """One target, all rows: strings in the one spelling, as the file writes them, labels, and groups of a split."""

    info: TargetInfo
    strings: list[str]
    written: list[str]
    labels: np.ndarray
    groups: Callable | None = None


def load(name: str, options: argparse.Namespace) -> Data:
    if name == "amp":
        task = amp(labels=None)
    elif name == "b3db":
        task = b3db(labels=None)
    else:
        column = {"bbbp": "p_np", "esol": "log_solubility"}[name]
        task = molecules_csv(str(getattr(options, name)), "smiles", column, name=name)
    assert isinstance(task.train, StringExamples) and isinstance(task.test, StringExamples)
    written = task.written or (task.train, task.test)
    return Data(
        task.info,
        task.train.strings + task.test.strings,
        written[0].strings + written[1].strings,
        np.concatenate([task.train.labels, task.test.labels]),
        task.reader.groups.get("scaffold"),
    )


# Features, each computed once a string and kept ---------------------------------------------------------------------


def kept(folder: Path, name: str, strings: list[str], compute: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """Rows of ``compute(strings)`` from ``folder/name.npy`` where its list of strings is the same one."""
    file = folder / f"{name}-{zlib.crc32(chr(10).join(strings).encode()):08x}.npy"
    if not file.exists():
        parts = [compute(strings[i : i + 128]) for i in track(range(0, len(strings), 128), f"reading {name}")]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, np.concatenate(parts))
    return np.load(file, mmap_mode="r")


def read_taps(source: SourceModel, strings: list[str]) -> np.ndarray:
    """[N, layers, poolings, D] in half precision; layer 0 are the embeddings."""
    wanted = [Tap(layer, pooling) for layer in source.spec.taps for pooling in POOLINGS]
    answer = source(strings, wanted)
    rows = torch.stack([answer.taps[tap] for tap in wanted], 1)
    return rows.view(len(strings), -1, len(POOLINGS), rows.shape[-1]).half().numpy()


class Features:
    """What the rows of the table read, by name."""

    def __init__(self, data: Data, folder: Path, random_source: bool) -> None:
        self.data, self.folder, name = data, folder, data.info.name
        self.source = MiniLM()
        apart = [" ".join(s) for s in data.strings]
        views = {"taps": data.strings} | ({"written": data.written} if data.written != data.strings else {})
        if data.info.kind == "sequence":
            views = {"taps": apart, "whole": data.strings}
        self.views = {v: kept(folder, f"{name}-{v}", s, partial(read_taps, self.source)) for v, s in views.items()}
        if random_source:
            blank = partial(read_taps, self.source.with_random_weights(0))
            self.views["random"] = kept(folder, f"{name}-random", views["taps"], blank)
        self.plain = (
            {"composition": Composition(AMINO_ACIDS), "kmers": KMers()}
            if data.info.kind == "sequence"
            else {"ecfp4": ECFP4(), "ecfp4_counts": ECFP4(counts=True), "descriptors": Descriptors()}
        )

    def add_spellings(self, count: int) -> None:
        """``spelling 1`` …: the same molecules in random spellings."""
        for i in range(1, count):
            strings = [randomized_smiles(s, count)[i] for s in self.data.strings]
            name = f"{self.data.info.name}-spelling{i}"
            self.views[f"spelling {i}"] = kept(self.folder, name, strings, partial(read_taps, self.source))

    def values(self, name: str, rows: np.ndarray) -> np.ndarray:
        whole = kept(self.folder, f"{self.data.info.name}-{name}", self.data.strings, self.plain[name])
        return np.asarray(whole[rows], dtype=np.float32)

    def outputs(self, rows: np.ndarray, views: list[str], beside: tuple[str, ...]) -> list[SourceOutput]:
        plain = {Tap(name, "side"): torch.from_numpy(self.values(name, rows)) for name in beside}
        answers = []
        for view in views:
            read = torch.from_numpy(np.asarray(self.views[view][rows], dtype=np.float32))
            taps = {
                Tap(layer, pooling): read[:, i, j]
                for i, layer in enumerate(self.source.spec.taps)
                for j, pooling in enumerate(POOLINGS)
            }
            answers.append(SourceOutput(read[:, 0, 0, :0], read[:, -1, 0], taps | plain))
        return answers


# Rows of the table --------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """group: ``model alone``, ``hybrid``, ``baseline`` or ``check``. model: a mapping, or a simple model's name."""

    group: str
    name: str
    model: str
    views: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()


def rows_for(data: Data, spellings: int) -> list[Row]:
    molecule = data.info.kind == "molecule"
    spelled = ("taps", *(f"spelling {i}" for i in range(1, spellings)))
    beside = ("descriptors", "ecfp4_counts") if molecule else ("composition",)
    rows = [
        Row("model alone", "linear probe on the last layer", "logistic", ("whole",) if not molecule else ("taps",)),
        Row("model alone", "several layers, ridge_taps", "ridge_taps", ("taps",)),
        Row("model alone", "several layers, gaussian_process", "gaussian_process", ("taps",)),
        Row("hybrid", f"gaussian_process, {' + '.join(beside)} beside", "gaussian_process", ("taps",), beside),
        Row("hybrid", "the same with trees", "gaussian_process+trees", ("taps",), beside),
    ]
    if molecule and spellings > 1:
        rows.insert(
            3, Row("model alone", f"mean of {spellings} spellings, gaussian_process", "gaussian_process", spelled)
        )
    if molecule:
        rows += [Row("baseline", f"ECFP4 + {m}", m, (), ("ecfp4",)) for m in ("forest", "logistic")]
        rows += [Row("baseline", f"descriptors + {m}", m, (), ("descriptors",)) for m in ("forest", "scaled_logistic")]
        if data.written != data.strings:
            rows.append(Row("check", "several layers, strings as written", "gaussian_process", ("written",)))
    else:
        names = {"forest": "composition + forest", "logistic": "length and composition alone + logistic"}
        rows += [Row("baseline", name, model, (), ("composition",)) for model, name in names.items()]
        rows.append(Row("baseline", "k-mers + logistic", "logistic", (), ("kmers",)))
        rows.append(Row("check", "several layers, letters not set apart", "gaussian_process", ("whole",)))
    return rows


def predict(row: Row, features: Features, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Test scores [N, T] of one row."""
    data = features.data
    labels = data.labels[train]
    if not row.views:
        x, y = (np.concatenate([features.values(n, r) for n in row.plain], 1) for r in (train, test))
        return fit_predict(row.model, x, labels, y, data.info, seed)
    if row.model == "logistic":
        x, y = (features.outputs(r, list(row.views), ())[0].features.numpy() for r in (train, test))
        return fit_predict(row.model, x, labels, y, data.info, seed)
    if row.model == "ridge_taps":
        mapping: OutputMapping = RidgeTaps(average=len(row.views))
    else:
        trees, units = 200 if row.model.endswith("trees") else 0, "descriptors" in row.plain
        mapping = GaussianProcessMapping(average=len(row.views), trees=trees, units=units, seed=seed)
    mapping.build(features.source.spec, data.info)
    mapping.fit(features.outputs(train, list(row.views), row.plain), to_tensor_labels(labels))
    with torch.no_grad():
        logits = mapping(features.outputs(test, list(row.views), row.plain))
    return (logits.softmax(1) if data.info.problem == "classification" else logits).numpy()


def measure(data: Data, scores: np.ndarray, test: np.ndarray) -> dict[str, float]:
    truth = data.labels[test]
    if data.info.problem == "regression":
        error = float(np.sqrt(np.mean((truth[:, 0] - scores[:, 0]) ** 2)))
        return {"rmse": error, "r2": float(r2_score(truth[:, 0], scores[:, 0]))}
    accuracy = float((scores.argmax(1) == truth).mean())
    return {
        "roc_auc": float(roc_auc_score(truth, scores[:, 1])),
        "pr_auc": float(average_precision_score(truth, scores[:, 1])),
        "accuracy": accuracy,
    }


def divide(data: Data, split: str, seed: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """(labelled rows, test rows). Fewer labels of the same seed are drawn anew, stratified."""
    groups = data.groups(data.strings) if split == "scaffold" and data.groups is not None else None
    train, test = hold_out(data.labels, 0.2, seed, groups)
    return train[draw(data.labels[train], seed, total=labels)], test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bbbp", type=Path, help="CSV with smiles,p_np")
    parser.add_argument("--esol", type=Path, help="CSV with smiles,log_solubility")
    parser.add_argument("--targets", nargs="+", default=["bbbp", "b3db", "esol", "amp"])
    parser.add_argument("--labels", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--splits", nargs="+", default=["stratified", "scaffold"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--spellings", type=int, default=1, help="SMILES spellings to average, in one more row")
    parser.add_argument("--no-written", action="store_true", help="leave out the row of strings as written")
    parser.add_argument("--random-source", action="store_true", help="one more row: random weights")
    parser.add_argument("--cache", type=Path, default=Path(".cache/few_label_sequences"))
    parser.add_argument("--table", type=Path, default=Path("docs/results/few_label_sequences.md"))
    parser.add_argument("--only-table", action="store_true")
    options = parser.parse_args()
    cells = options.cache / "cells.jsonl"
    if not options.only_table:
        for name in options.targets:
            run_target(name, options, cells)
    found = [c for c in read_lines(cells) if options.first_seed <= c["seed"] < options.first_seed + options.seeds]
    summary = write_table(found, options.table)
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    seeds = sorted({c["seed"] for c in found})
    print(json.dumps({"figures": summary, "seeds": seeds, "versions": versions}))


def run_target(name: str, options: argparse.Namespace, cells: Path) -> None:
    data = load(name, options)
    if options.no_written:
        data.written = data.strings
    done = {(c["target"], c["split"], c["seed"], c["labels"], c["row"]) for c in read_lines(cells)}
    features = Features(data, options.cache, options.random_source)
    if data.info.kind == "molecule" and options.spellings > 1:
        features.add_spellings(options.spellings)
    rows = rows_for(data, options.spellings)
    if options.random_source:
        beside = next(r.plain for r in rows if r.model.endswith("trees"))
        rows.append(Row("check", "several layers, random weights", "gaussian_process", ("random",)))
        rows.append(Row("check", "hybrid with trees, random weights", "gaussian_process+trees", ("random",), beside))
    splits = [s for s in options.splits if s != "scaffold" or data.groups is not None]
    for labels in options.labels:
        for split in splits:
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                todo = [r for r in rows if (name, split, seed, labels, r.name) not in done]
                if not todo:
                    continue
                train, test = divide(data, split, seed, labels)
                for row in todo:
                    started = time.process_time()
                    metrics = measure(data, predict(row, features, train, test, seed), test)
                    cell = {"target": name, "split": split, "seed": seed, "labels": labels, "group": row.group}
                    cell |= {"row": row.name, "cpu_seconds": time.process_time() - started, "test": len(test)}
                    append_line(cells, json.dumps(cell | metrics))


if __name__ == "__main__":
    main()
