"""Many start molecules, each a run of its own (``per_start=true``): its budget, its similarity, its journal.

``starts/00017.jsonl`` is the journal of start 17 and ``starts/00017.json`` its outcome, so that a run that was killed
skips finished starts and goes on inside unfinished ones.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from molecules import report
from molecules.auc import auc_top
from molecules.objective import Scored
from molecules.run_search import build_objective, explore
from molecules.starts import Starts
from molecules.tasks._journals import merge_journals
from molecules.workers import Workers
from reprogram.errors import ConfigError, DataError, ReprogramError
from reprogram.files import read_json
from reprogram.hooks import Run
from reprogram.progress import console, progress
from reprogram.report.blocks import facts, listing, pictures, table
from reprogram.report.charts import MARK, axes, svg
from reprogram.report.page import Page
from reprogram.result import finite, write_atomically

LARGEST_OUTCOME = 16 << 20  # bytes of one start's file
KEPT = 10  # best molecules of each start that the tables show


def run_all(run: Run, starts: Starts) -> float | None:
    """Every start in its own process slot; returns the mean of the starts' best scores."""
    from joblib import Parallel, delayed

    if run.config["parallel"]["backend"] == "dask":
        raise ConfigError(
            "per_start=true runs its searches in processes of this machine; parallel.backend=dask scores one search."
        )
    began = time.monotonic()
    jobs = Workers(jobs=run.config["parallel"]["jobs"]).processes
    tasks = [delayed(run_one)(run.config, s, run.dir / "starts", i) for i, s in enumerate(starts.smiles, 1)]
    rows, best = [], 0
    with progress("start molecules", len(tasks)) as bar:
        for row in Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")(tasks):
            rows.append(row)
            best += row["best"] != []
            bar.advance(note=f"{best} with a feasible molecule")
    rows.sort(key=lambda row: row["number"])
    if all(row["error"] for row in rows):
        raise DataError(f"Every start failed; the first said: {rows[0]['error']}")
    merge_journals(run.dir, "start", [run.dir / "starts" / f"{number:05d}.jsonl" for number in range(1, len(rows) + 1)])
    verdict = write(run, starts, rows, time.monotonic() - began)
    console.print(f"{verdict}\nresults in {run.dir}", soft_wrap=True)
    tops = [row["best"][0]["score"] for row in rows if row["best"]]
    return float(np.mean(tops)) if tops else None


def run_one(config: dict[str, Any], smiles: str, folder: Path, number: int) -> dict[str, Any]:
    """One start to its end, or its outcome where it is finished already. An error of one start is its row's."""
    outcome = folder / f"{number:05d}.json"
    if outcome.exists():
        return _finished(outcome, smiles)
    apart = build_objective(config, [smiles]).isolated  # what may crash gets processes of its own here, too
    alone = {"backend": "processes", "jobs": 1} if apart else {"backend": "serial"}
    own = config | {"parallel": config["parallel"] | alone}
    row: dict[str, Any] = {"number": number, "start": smiles, "error": "", "calls": 0, "best": [], "reached": False}
    journal = folder / f"{number:05d}.jsonl"
    try:
        found = explore(own, [smiles], journal, number=number)
    except ReprogramError as error:
        paid = journal.read_bytes().count(b"\n") if journal.exists() else 0
        return row | {"error": str(error), "calls": paid}
    feasible = sorted((s for s in found.calls if s.feasible), key=lambda s: (s.rank, -s.call), reverse=True)
    scores = report.feasible_scores(found.calls)
    stop_at = config["stop_at"]
    row |= {
        "calls": len(found.calls),
        "objective": found.objective.name,
        "begun_with": report.start_score(found),
        "best": [report.entry(s) for s in feasible[:KEPT]],
        "reached": stop_at is not None and bool(feasible) and feasible[0].score >= stop_at,
        "auc": {f"auc_top{k}": auc_top(scores, k, found.budget) for k in (1, 10, 100)},
        "notes": found.notes,
        "oracle_seconds": found.cost["oracle_seconds"],
    }
    row = finite(row)
    write_atomically(outcome, json.dumps(row) + "\n")
    return row


def _finished(outcome: Path, smiles: str) -> dict[str, Any]:
    """The outcome of a start that an earlier run ended. Raises ConfigError for a file that is none."""
    row = read_json(outcome, LARGEST_OUTCOME, ConfigError)
    kinds = {"number": int, "error": str, "calls": int, "best": list, "reached": bool}
    if not (isinstance(row, dict) and row.get("start") == smiles and all(isinstance(row.get(k), t) for k, t in kinds.items())):
        raise ConfigError(f"{outcome} is not the outcome of start {smiles}; remove it, and resume=true makes it again.")
    return row


def write(run: Run, starts: Starts, rows: list[dict[str, Any]], seconds: float) -> str:
    """All files; returns the verdict."""
    objective = build_objective(run.config, starts.smiles[:1])
    best = [Scored.from_json(row["best"][0]) for row in rows if row["best"]]
    everything = {s["smiles"]: Scored.from_json(s) for row in rows for s in reversed(row["best"])}
    ranked = sorted(everything.values(), key=lambda s: s.rank, reverse=True)
    report.write_csv(run.dir / "molecules.csv", ranked, objective)
    report.write_sdf(run.dir / "molecules.sdf", ranked[: report.IN_SDF], objective)
    report.draw(run.dir / "molecules.png", ranked[: report.PICTURED])
    write_atomically(run.dir / "starts.csv", starts_csv(rows))
    done = [row for row in rows if not row["error"]]
    tops = [row["best"][0] | {"start": row["start"]} for row in rows if row["best"]]
    notes = starts.notes + [f"start {r['number']} ({r['start']}) failed: {r['error']}" for r in rows if r["error"]]
    data = {
        "objective": objective.name,
        "budget": run.config["budget"],
        "calls": sum(row["calls"] for row in rows),
        **{key: float(np.mean([row["auc"][key] for row in done])) for key in ("auc_top1", "auc_top10", "auc_top100")},
        "best": sorted(tops, key=lambda entry: -entry["score"])[: report.IN_JSON],
        "starts": {"molecules": len(rows), "with_feasible_molecule": len(best), "failed": len(rows) - len(done)},
        "notes": notes,
        "cost": {"seconds": seconds, "oracle_seconds": sum(row["oracle_seconds"] for row in done)},
    }
    verdict = f"{len(best)} of {len(rows)} start molecules led to a feasible molecule."
    if run.config["stop_at"] is not None:
        spent = [row["calls"] for row in rows if row["reached"]]
        median = float(np.median(spent)) if spent else None
        data["reached"] = {"starts": len(spent), "share": len(spent) / len(rows), "median_calls": median}
        verdict = f"{len(spent)} of {len(rows)} start molecules reached {run.config['stop_at']:g}"
        verdict += f", with a median of {median:g} calls." if spent else "."
    run.result.data |= data | {"verdict": verdict}
    page(run, rows, data, verdict).write(run.dir)
    run.result.write(run.dir)
    return verdict


def starts_csv(rows: list[dict[str, Any]]) -> str:
    """One row a start: what it began with and what was found."""
    lines = ["start,smiles,begun_with,best_smiles,best_score,calls,reached"]
    for row in rows:
        top = row["best"][0] if row["best"] else {"smiles": "", "score": ""}
        begun = row.get("begun_with")
        cells = [row["number"], row["start"], "" if begun is None else begun, top["smiles"], top["score"]]
        lines.append(",".join(map(str, [*cells, row["calls"], int(row["reached"])])))
    return "\n".join(lines) + "\n"


def page(run: Run, rows: list[dict[str, Any]], data: dict[str, Any], verdict: str) -> Page:
    """``report.html`` of many starts."""
    result = Page(title=f"Design: {data['objective']}", kind="Molecular design, many starts", lead=verdict)
    result.section("Notes", listing(data["notes"]))
    with_best = sorted((r for r in rows if r["best"]), key=lambda r: -r["best"][0]["score"])
    if with_best:
        figure, chart = axes(x="best feasible score of a start", y="starts")
        chart.hist([r["best"][0]["score"] for r in with_best], bins=20, color=MARK)
        spent, calls = axes(x="oracle calls of a start", y="starts")
        calls.hist([r["calls"] for r in rows], bins=20, color=MARK)
        result.section("Outcome", pictures([svg(figure, "best scores of the starts"), svg(spent, "calls per start")]))
    shown = with_best[: report.SHOWN]
    cards = [report.card(Scored.from_json(r["best"][0]), [r["start"]]) for r in shown]
    result.section("Best molecules, with what changed against their start", pictures(cards))
    body = [
        [r["number"], r["start"], r.get("begun_with"), r["best"][0]["smiles"], r["best"][0]["score"], r["calls"]]
        for r in with_best[:200]
    ]
    result.section("Starts", table(["", "start", "its score", "best", "score", "calls"], body))
    cost = {"oracle calls": data["calls"], "budget of a start": data["budget"], **data["cost"]}
    result.section("Cost", facts(cost))
    return result
