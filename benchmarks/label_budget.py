"""How far labels go: random ones without a pool, a pool read beside them, and labels that were chosen.

    python benchmarks/label_budget.py --cifar PATH --bbbp PATH [--seeds 100 101 102 103 104] [--pools 1000 4000]
        [--budgets 10 20 40 80 160] [--data digits mnist …] [--cache FOLDER] [--choosing]

A seed draws the pool and, for random labels, which rows are labelled (nobody knows their classes). Chosen labels come in
rounds: the first budget without a label, each next one with the labels so far. ``--choosing`` is how the settings were
chosen: other seeds, and 30% of the training rows as judges, so that no test row took part. Finished cells are kept in
FOLDER/label_cells.jsonl and never computed again; the page in docs/results/ is written from them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _label_data import IMAGES, STRINGS, Data, load
from _label_page import CHOSEN, POOLED, PROBE, RANDOM, write
from _label_rivals import RIVALS, sphere
from common import append_line, read_lines
from sklearn.metrics import roc_auc_score

from reprogram.evaluation.simple_models import fit_predict
from reprogram.interfaces import OutputMapping, SourceOutput
from reprogram.labels import choose
from reprogram.labels.forecast import Evidence
from reprogram.outputs.blend import Blend
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.selection.pool import blend_config


class Setting:
    """One data set, pool and seed: the pool's rows, their outputs read once, and the rows that judge."""

    def __init__(self, data: Data, pool: int, seed: int, choosing: bool) -> None:
        rest, self.judges = data.split(seed, choosing)
        self.data, self.seed, self.pool = data, seed, rest[:pool]
        self.labels, self.truth = data.labels[self.pool], data.labels[self.judges]
        self.pool_outputs, self.judge_outputs = data.outputs(self.pool), data.outputs(self.judges)
        self.blend = Blend(**blend_config(data.spec, data.info)[1])
        self.blend.build(data.spec, data.info)
        self.blend.observe_pool(self.pool_outputs)
        self.ridge = RidgeTaps(balanced=data.spec.kind != "image")
        self.ridge.build(data.spec, data.info)
        layers = choose.choosing_layers(data.spec, data.photographs)
        self.points = choose.space(self.pool_outputs, data.spec, data.info, layers)

    def fit(self, mapping: OutputMapping, rows: np.ndarray) -> None:
        mapping.fit(self.data.outputs(self.pool[rows]), torch.from_numpy(self.labels[rows]))

    def judged(self, mapping: OutputMapping, rows: np.ndarray) -> dict[str, Any]:
        """Scores of a mapping fitted on these rows of the pool."""
        self.fit(mapping, rows)
        return self.scores(probabilities(mapping, self.judge_outputs))

    def scores(self, found: np.ndarray) -> dict[str, Any]:
        """``score``: accuracy, or ROC-AUC for two classes."""
        accuracy = float((found.argmax(1) == self.truth).mean())
        two = found.shape[1] == 2
        return {"score": float(roc_auc_score(self.truth, found[:, 1])) if two else accuracy, "accuracy": accuracy}

    def probe(self, rows: np.ndarray) -> dict[str, Any]:
        train, test = self.data.probe(self.pool[rows]), self.data.probe(self.judges)
        return self.scores(fit_predict("logistic", train, self.labels[rows], test, self.data.info, self.seed))

    def evidence(self, rows: np.ndarray) -> dict[str, Any]:
        """What the forecast reads, from the blend as it was fitted last."""
        found = probabilities(self.blend, self.pool_outputs)
        assert self.blend.left_out is not None
        left = self.blend.left_out.double().softmax(1).numpy()
        return Evidence.of(left, self.labels[rows], np.delete(found, rows, 0)).to_json()


def probabilities(mapping: OutputMapping, outputs: list[SourceOutput]) -> np.ndarray:
    with torch.no_grad():
        return mapping(outputs).softmax(1).double().numpy()


def run(setting: Setting, budgets: list[int], keep: Any) -> None:
    """All arms of one setting; ``keep(arm, budget, scores)``."""
    order = np.random.default_rng([setting.seed, 1]).permutation(len(setting.pool))
    chosen, doubt = np.zeros(0, int), np.ones(len(setting.pool))
    for budget in budgets:
        rows = order[:budget]
        if len(np.unique(setting.labels[rows])) > 1:
            keep(PROBE, budget, setting.probe(rows))
            keep(RANDOM, budget, setting.judged(setting.ridge, rows))
            found = setting.judged(setting.blend, rows)
            keep(RANDOM + POOLED, budget, found | setting.evidence(rows))
        chosen = np.concatenate([chosen, choose.next_round(setting.points, chosen, doubt, budget - len(chosen), setting.seed)])
        keep(CHOSEN, budget, setting.judged(setting.ridge, chosen))
        found = setting.judged(setting.blend, chosen)
        keep(CHOSEN + POOLED, budget, found | setting.evidence(chosen))
        doubt = choose.doubts(probabilities(setting.blend, setting.pool_outputs))


def run_rivals(setting: Setting, budgets: list[int], keep: Any) -> None:
    """Labels chosen by published rules, read by the same two outputs."""
    points = sphere(setting.data.values["features"][torch.from_numpy(setting.pool)].float().numpy())
    for name, rule in RIVALS.items():
        rows = rule(points, budgets, len(setting.data.info.classes), setting.seed)
        for budget in budgets:
            if len(np.unique(setting.labels[rows[:budget]])) > 1:
                keep(name, budget, setting.judged(setting.ridge, rows[:budget]))
                keep(name + POOLED, budget, setting.judged(setting.blend, rows[:budget]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="folder of cifar10-small")
    parser.add_argument("--bbbp", help="bbbp.csv")
    parser.add_argument("--data", nargs="+", default=[*IMAGES, *STRINGS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102, 103, 104])
    parser.add_argument("--pools", nargs="+", type=int, default=[1000, 4000])
    parser.add_argument("--budgets", nargs="+", type=int, default=[10, 20, 40, 80, 160])
    parser.add_argument("--cache", default="label_cache")
    parser.add_argument("--choosing", action="store_true", help="judge by training rows: for choosing settings")
    parser.add_argument("--page", default="docs/results/label_budget.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(args.cache)
    file = folder / ("label_cells_choosing.jsonl" if args.choosing else "label_cells.jsonl")
    for seed in args.seeds:
        for name in args.data:
            if (name == "cifar10-small" and not args.cifar) or (name == "bbbp" and not args.bbbp):
                continue
            data = load(name, folder, args.cifar, args.bbbp)
            room = len(data.split(seed, args.choosing)[0])
            for pool in sorted({p for p in args.pools if p <= room} or {room}):
                compute(data, pool, seed, args, file)
    print(json.dumps(write(Path(args.page), read_lines(file), args.choosing)))


def compute(data: Data, pool: int, seed: int, args: argparse.Namespace, file: Path) -> None:
    """All cells of one setting, unless they are in the file."""
    name = data.info.name
    for arm, part in ((CHOSEN, run), (next(iter(RIVALS)), run_rivals)):
        if (name, pool, seed, arm) in {(c["data"], c["pool"], c["seed"], c["arm"]) for c in read_lines(file)}:
            continue
        started, cells = time.time(), list[dict[str, Any]]()

        def keep(arm: str, budget: int, scores: dict[str, Any], cells: list[dict[str, Any]] = cells) -> None:
            cells.append({"data": name, "pool": pool, "seed": seed, "arm": arm, "budget": budget} | scores)

        part(Setting(data, pool, seed, args.choosing), sorted(args.budgets), keep)
        append_line(file, "\n".join(json.dumps(cell) for cell in cells))
        print(f"{name}, pool {pool}, seed {seed}: {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
