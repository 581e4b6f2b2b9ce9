"""Score a file of molecules without a search (``task=score``): every row comes back in its place."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from molecules import chemistry, recipe, report
from molecules.counting import counted
from molecules.evaluator import Evaluator
from molecules.objective import Objective, Scored
from molecules.run_search import Found, build_objective
from molecules.starts import REASONS, Source, StartRow, read_row
from reprogram.errors import DataError
from reprogram.hooks import Run
from reprogram.progress import console, progress
from reprogram.result import write_atomically
from reprogram.tasks._run import start


@dataclass
class ScoredRow:
    """A row of the file: where it stands and what it says, its molecule (None: ``reason`` says why), what was changed."""

    where: str
    text: str
    smiles: str | None
    reason: str = ""
    changes: tuple[str, ...] = ()


def run(config: DictConfig) -> float | None:
    """Returns the best feasible score for sweeps."""
    context = start(config)
    source: Source = instantiate(config.start, _convert_="all")
    rows = limited([read(row) for row in source.rows(np.random.default_rng([config.seed, 0]))], source.limit)
    smiles = list(dict.fromkeys(row.smiles for row in rows if row.smiles is not None))
    if not smiles:
        raise DataError(f"{source.origin} holds no molecule that can be scored ({counted(len(rows), 'row')}).")
    recipe.hold(context, smiles)
    found = score(context, smiles)
    write(context, rows, found)
    return max((s.score for s in found.calls if s.feasible), default=None)


def read(row: StartRow) -> ScoredRow:
    """The molecule of a row, as a search would read it."""
    smiles, dropped, changes = read_row(row.where, row.smiles)
    return ScoredRow(row.where, row.smiles or "", smiles, REASONS.get(dropped, ""), tuple(changes))


def limited(rows: list[ScoredRow], limit: int | None) -> list[ScoredRow]:
    """The rows down to that of the ``limit``-th molecule (``start.limit``)."""
    found: set[str] = set()
    for i, row in enumerate(rows, 1):
        found |= {row.smiles} if row.smiles else set()
        if len(found) == limit:
            return rows[:i]
    return rows


def score(context: Run, smiles: list[str]) -> Found:
    """Every molecule once; answers of an earlier, unfinished run are in ``calls.jsonl``."""
    began = time.monotonic()
    objective = build_objective(context.config, smiles)
    workers, journal = instantiate(context.config["parallel"]), context.dir / "calls.jsonl"
    with (
        progress("scoring", len(smiles)) as bar,
        Evaluator(objective, len(smiles) + 1, workers=workers, journal=journal) as evaluator,
    ):
        evaluator.bar = bar
        evaluator.score(smiles)
        evaluator.check()
    cost = evaluator.cost(time.monotonic() - began)
    return Found(objective, smiles, evaluator.calls, len(smiles), None, cost=cost)


def write(context: Run, rows: Sequence[ScoredRow], found: Found) -> None:
    """``scores.csv`` in the order of the file, and the files of a design run, best first."""
    by_smiles = {s.smiles: s for s in found.calls}
    write_atomically(context.dir / "scores.csv", table(rows, by_smiles, found.objective))
    scored = [s for s in found.calls if not math.isnan(s.score)]
    without = [row for row in rows if row.smiles is None]
    verdict = f"{counted(len(scored), 'molecule')} scored, {sum(s.feasible for s in scored)} of them satisfy all constraints."
    if without:
        named = "; ".join(f"{row.where} ({row.reason})" for row in without[:5]) + ("; …" if len(without) > 5 else "")
        found.notes.append(f"{counted(len(without), 'row')} without a molecule: {named}.")
    if context.config["constraints"]["similarity"] is not None:
        found.notes.append("constraints.similarity is to the molecules of the file, each of which is like itself: it holds.")
    report.write(context, found, verdict)
    console.print(f"{verdict}\nresults in {context.dir}", soft_wrap=True)


def table(rows: Sequence[ScoredRow], scored: dict[str, Scored], objective: Objective) -> str:
    """One line a row: its own words, the molecule, score, parts, what is violated and why, what is unusual."""
    terms, constraints = [t.name for t in objective.terms], [c.name for c in objective.constraints.items]
    added = report.added_columns([], objective)
    header = [*map(report.part_column, terms), *(f"{t} (raw)" for t in terms), *(f"violates {c}" for c in constraints), *added]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "input", "smiles", "score", "feasible", *header, "why not", "unusual", "changed", "reason"])
    for row in rows:
        found = scored.get(row.smiles or "")
        mol = chemistry.parse(row.smiles or "")
        if found is None or mol is None:
            blank = [""] * (len(header) + 2)
            writer.writerow([row.where, row.text, row.smiles or "", "", 0, *blank, ", ".join(row.changes), row.reason])
            continue
        values = [found.score, *(found.parts.get(t) for t in terms), *(found.raw.get(t) for t in terms)]
        values += [found.constraints.get(c) for c in constraints]
        cells = ["" if v is None or math.isnan(v) else repr(float(v)) for v in values]
        cells += report.added_values(found, objective).values()
        why = "; ".join(objective.constraints.reasons(mol))
        end = [why, report.rare_parts(found.smiles), ", ".join(row.changes), found.reason]
        writer.writerow([row.where, row.text, found.smiles, cells[0], int(found.feasible), *cells[1:], *end])
    return text.getvalue()
