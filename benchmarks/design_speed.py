"""Speed: 10,000 calls of one PMO task against the ``mol_ga`` package, same oracle object, same start, one process each.

python benchmarks/design_speed.py --calls 10000 --surrogate-calls 1000
"""

from __future__ import annotations

import argparse
import json
import random
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from common import versions, write_page

from molecules.auc import auc_top, top_mean
from molecules.benchmark import zinc_start
from molecules.evaluator import Evaluator
from molecules.objective import Objective
from molecules.oracles.pmo import pmo
from molecules.search.genetic import Genetic
from molecules.search.surrogate import Surrogate

PAGE = Path(__file__).parents[1] / "docs" / "results" / "design_speed.md"
SPEED_TARGET = 4.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="perindopril_mpo")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--surrogate-calls", type=int, default=1_000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[10])
    parser.add_argument("--page", type=Path, default=PAGE)
    return parser.parse_args()


def ours(search: Genetic | Surrogate, task: str, calls: int, seed: int) -> dict[str, Any]:
    evaluator = Evaluator(Objective.of(pmo(task)), calls)
    start = zinc_start(100, seed)
    cpu = time.process_time()
    search.run(evaluator, start, np.random.default_rng(seed))
    return summary([s.score for s in evaluator.calls], calls, time.process_time() - cpu)


def mol_ga(task: str, calls: int, seed: int) -> dict[str, Any]:
    """The package in the PMO setting of its authors' re-run: offspring 5, population 500."""
    from mol_ga import default_ga

    oracle, seen = pmo(task), {}

    class Spent(Exception):
        pass

    def score(smiles: list[str]) -> list[float]:
        values = [0.0 if np.isnan(v) else float(v) for v in oracle.score(smiles)]
        for text, value in zip(smiles, values):
            seen.setdefault(text, value)
            if len(seen) >= calls:
                raise Spent
        return values

    start = zinc_start(100, seed)
    cpu = time.process_time()
    with suppress(Spent):
        default_ga(start, score, 10**9, offspring_size=5, population_size=500, rng=random.Random(seed))
    return summary(list(seen.values()), calls, time.process_time() - cpu)


def summary(scores: list[float], calls: int, seconds: float) -> dict[str, Any]:
    return {
        "calls": len(scores),
        "cpu_seconds": seconds,
        "auc_top10": auc_top(scores, 10, calls),
        "top10": top_mean(scores, 10),
    }


def alone(function: Any, *args: Any) -> dict[str, Any]:
    """In a fresh process, so that no cache of one run helps another."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def main() -> None:
    options = arguments()
    rows: dict[str, list[dict[str, Any]]] = {"mol_ga": [], "genetic": [], "surrogate": []}
    for seed in options.seeds:
        rows["genetic"].append(alone(ours, Genetic(), options.task, options.calls, seed))
        rows["surrogate"].append(alone(ours, Surrogate(), options.task, options.surrogate_calls, seed))
        rows["mol_ga"].append(alone(mol_ga, options.task, options.calls, seed))
    mean = {name: {k: float(np.mean([r[k] for r in rs])) for k in rs[0]} for name, rs in rows.items()}
    ratio = mean["mol_ga"]["cpu_seconds"] / mean["genetic"]["cpu_seconds"]
    text = [
        f"Task {options.task}, seeds {options.seeds}, the same oracle and start molecules, one process and one thread each; "
        "CPU seconds of the search with its oracle calls. AUC top-10 over the calls of the row. The targets are stated for "
        f"10,000 calls and 1,000 of `surrogate`; this page: {options.calls:,} and {options.surrogate_calls:,}.",
        "",
        "| search | calls | CPU s | AUC top-10 | final top-10 |",
        "|---|---|---|---|---|",
        *(
            f"| {n} | {m['calls']:.0f} | {m['cpu_seconds']:.1f} | {m['auc_top10']:.3f} | {m['top10']:.3f} |"
            for n, m in mean.items()
        ),
        "",
        f"`genetic` takes {ratio:.1f} times less CPU time than `mol_ga` (target {SPEED_TARGET:g}): "
        + ("reached" if ratio >= SPEED_TARGET else "**not reached**")
        + "; its AUC is "
        + ("at least as high." if mean["genetic"]["auc_top10"] >= mean["mol_ga"]["auc_top10"] else "**lower**."),
        "",
        f"`surrogate` at {options.surrogate_calls:,} calls: AUC {mean['surrogate']['auc_top10']:.3f} against "
        f"{mean['mol_ga']['auc_top10']:.3f} of `mol_ga` at {options.calls:,} (target: higher): "
        + ("reached." if mean["surrogate"]["auc_top10"] > mean["mol_ga"]["auc_top10"] else "**not reached**."),
    ]
    write_page(options.page, "Speed of molecule search", "python benchmarks/design_speed.py", "\n".join(text))
    print("\n".join(text))
    figures = {**mean, "cpu_ratio": ratio}
    print(
        json.dumps(
            {"benchmark": "design_speed", "figures": figures, "seeds": options.seeds, "versions": versions("mol_ga")}
        )
    )


if __name__ == "__main__":
    main()
