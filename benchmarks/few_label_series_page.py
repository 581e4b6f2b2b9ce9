"""The page of ``few_label_series.py`` from its finished cells."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from common import read_lines, write_page

ROWS = {  # row of a cell -> what the page calls it
    "auto": "program=auto",
    "auto on random weights": "the same on random weights",
    "all pictures": "pictures alone",
    "all pictures on random weights": "pictures alone on random weights",
    "minirocket+ridge": "MiniRocket + ridge",
    "warping+nearest": "1-NN by warping",
    "raw+ridge": "ridge on the raw signal",
    "log_mel+ridge": "ridge on log-mel",
}
WHOLE = 8  # sets of a whole run
BASELINES = ("minirocket+ridge", "warping+nearest", "raw+ridge")
Cells = dict[tuple[str, int | None, str], list[float]]


def write_results(file: Path, page: Path, machine: str = "") -> dict[str, Any]:
    """Writes the page; returns the figures that the aims are about."""
    found = list({(c["data"], c["shots"], c["seed"], c["row"]): c for c in read_lines(file)}.values())
    sets = sorted({cell["data"] for cell in found if not cell["data"].startswith("spoken")})
    sounds = sorted({cell["data"] for cell in found if cell["data"].startswith("spoken")}, reverse=True)
    cells: Cells = defaultdict(list)
    seeds, sizes = set(), {}
    for cell in [*_complete(found, sets), *_complete(found, sounds)]:
        cells[cell["data"], cell["shots"], cell["row"]].append(cell["accuracy"])
        seeds.add(cell["seed"])
        sizes[cell["data"]] = cell["n"]
    text = [
        "Accuracy on test signals, mean over draws of the labels; with all labels there is one draw. Seeds "
        f"{min(seeds)} to {max(seeds)} draw the labels, the same for every row; a table of "
        "fewer draws has the first of them. Settings of signals were chosen on draws 0 to 9 of the training "
        "parts alone (ACSF1 and OSULeaf 0 to 3), tested on what was left of them; those of sounds on draws 0 to "
        "7 of the same recordings, so the speakers here, new to the labels, are not new to the settings. "
        f"Test signals: {', '.join(f'{name} {sizes[name]}' for name in sets)}. Frozen EfficientNet-Lite0; MiniRocket and "
        "warping from the package aeon. `program=auto` has one candidate for signals, the pictures and plain features beside "
        "with weights by the labels; it was fitted as in a run."
        + (f" Computed on {machine}." if machine else ""),
        "",
    ]
    if len(sets) < WHOLE or not sounds:
        text += [f"This is a partial run: {len(sets)} of {WHOLE} sets, {'with' if sounds else 'without'} spoken digits.", ""]
    figures: dict[str, Any] = {}
    for shots in (2, 4, 8, None):
        if sets:
            text += _table(cells, sets, shots, figures)
    if sets:
        text += _aims(figures)
    for data in sounds:
        text += _sounds(cells, data, figures)
    write_page(page, "Few labels: sensors and sound", "python benchmarks/few_label_series.py", "\n".join(text))
    return figures


def _complete(found: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """Cells of the draws that all of ``names`` have in all rows, so that an interrupted run compares like with like."""
    rows = {name: {cell["row"] for cell in found if cell["data"] == name} for name in names}
    seen: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for cell in found:
        seen[cell["data"], cell["shots"], cell["seed"]].add(cell["row"])
    whole = [key for key in seen if key[0] in rows and seen[key] == rows[key[0]]]
    shared = {draw for draw in {key[1:] for key in whole} if all((name, *draw) in whole for name in names)}
    return [cell for cell in found if cell["data"] in rows and (cell["shots"], cell["seed"]) in shared]


def _mean(cells: Cells, data: str, shots: int | None, row: str) -> float:
    found = cells.get((data, shots, row), [])
    return float(np.mean(found)) if found else float("nan")


def _table(cells: Cells, sets: list[str], shots: int | None, figures: dict[str, Any]) -> list[str]:
    draws = {len(found) for (data, s, row), found in cells.items() if s == shots and row == "auto" and data in sets}
    count = f"{shots} labels a class, {max(draws, default=0)} draws" if shots else "All labels of the standard split"
    lines = [f"## {count}", "", "| | " + " | ".join(sets) + " | mean |", "|---|" + "---|" * (len(sets) + 1)]
    means = {}
    for row, title in ROWS.items():
        values = [_mean(cells, data, shots, row) for data in sets]
        if np.isnan(values).all():
            continue
        means[row] = float(np.mean(values))
        lines.append(f"| {title} | " + " | ".join("–" if np.isnan(v) else f"{v:.3f}" for v in values) + f" | {means[row]:.3f} |")
    if "auto" not in means:
        return []
    behind = {
        data: max((_mean(cells, data, shots, row) - _mean(cells, data, shots, "auto"), row) for row in BASELINES)
        for data in sets
    }
    figures[str(shots or "all")] = {"means": means, "behind": behind}
    return [*lines, ""]


def _aims(figures: dict[str, Any]) -> list[str]:
    """What was aimed at, and what came out."""
    lines = ["## What was aimed at", ""]
    for shots, found in figures.items():
        gain = found["means"]["auto"] - found["means"]["minirocket+ridge"]
        aim = 0.0 if shots == "all" else 0.02
        which = "with all labels" if shots == "all" else f"with {shots} labels a class"
        met = "reached" if gain >= aim else "NOT reached"
        lines.append(f"- Mean {which}: {100 * gain:+.1f} points against MiniRocket (aim {100 * aim:+.0f}): {met}.")
        far = {data: (by, row) for data, (by, row) in found["behind"].items() if by > 0.01 + 1e-9}
        named = [f"{data} {-100 * by:+.1f} ({ROWS[row]})" for data, (by, row) in sorted(far.items(), key=lambda f: -f[1][0])]
        met = f"NOT reached: {', '.join(named)}" if named else "reached"
        lines.append(f"  Never more than 1 point below the best baseline of a set: {met}.")
        pretrained, untrained = found["means"]["all pictures"], found["means"]["all pictures on random weights"]
        lines.append(f"  Pictures alone: {pretrained:.3f} on the pretrained model, {untrained:.3f} on random weights.")
    return [*lines, ""]


def _sounds(cells: Cells, data: str, figures: dict[str, Any]) -> list[str]:
    counts = [shots for shots in (4, 8, 16) if not np.isnan(_mean(cells, data, shots, "auto"))]
    draws = len(cells[data, counts[0], "auto"]) if counts else 0
    lines = [f"## {data[0].upper()}{data[1:]}, {draws} draws", ""]
    lines += ["| | " + " | ".join(f"{shots} a word" for shots in counts) + " |", "|---|" + "---|" * len(counts)]
    for row, title in ROWS.items():
        values = [_mean(cells, data, shots, row) for shots in counts]
        if not np.isnan(values).all():
            lines.append(f"| {title} | " + " | ".join(f"{v:.3f}" for v in values) + " |")
    if 16 in counts:
        reached = _mean(cells, data, 16, "auto")
        aim = 0.82 if "new" in data else 0.94
        lines += ["", f"Aim with 16 a word: {aim:.2f}; {'reached' if reached >= aim else 'NOT reached'}: {reached:.3f}."]
    figures[data] = {shots: _mean(cells, data, shots, "auto") for shots in counts}
    return [*lines, ""]
