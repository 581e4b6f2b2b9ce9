"""The page of ``few_label_series.py`` from its finished cells."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from common import write_page

ROWS = {  # row of a cell -> what the page calls it
    "auto": "program=auto",
    "all pictures and the plain signal": "pictures, raw signal, convolutions",
    "all pictures": "pictures alone",
    "all pictures and the plain signal on random weights": "the same on random weights",
    "all pictures on random weights": "pictures alone on random weights",
    "minirocket+ridge": "MiniRocket + ridge",
    "warping+nearest": "1-NN by warping",
    "raw+ridge": "ridge on the raw signal",
    "log_mel+ridge": "ridge on log-mel",
}
WHOLE = 8  # sets of a whole run
BASELINES = ("minirocket+ridge", "warping+nearest", "raw+ridge")
Cells = dict[tuple[str, int | None, str], list[float]]


def write_results(file: Path, page: Path) -> dict[str, Any]:
    """Writes the page; returns the figures that the aims are about."""
    cells: Cells = defaultdict(list)
    seeds, sizes = set(), {}
    for line in file.read_text().splitlines():
        cell = json.loads(line)
        cells[cell["data"], cell["shots"], cell["row"]].append(cell["accuracy"])
        seeds.add(cell["seed"])
        sizes[cell["data"]] = cell["n"]
    sets = sorted({data for data, _, _ in cells if not data.startswith("spoken")})
    sounds = sorted({data for data, _, _ in cells if data.startswith("spoken")}, reverse=True)
    text = [
        "Accuracy on test signals, mean over draws of the labels; with all labels there is one draw. Seeds "
        f"{min(seeds)} to {max(seeds)} draw the labels, the same for every row; settings were chosen on draws 0 to 4. "
        f"Test signals: {', '.join(f'{name} {sizes[name]}' for name in sets)}. Frozen EfficientNet-Lite0; MiniRocket and "
        "warping from the package aeon.",
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
    best = {data: max(_mean(cells, data, shots, row) for row in BASELINES) for data in sets}
    behind = {data: best[data] - _mean(cells, data, shots, "auto") for data in sets}
    worst = max(behind, key=lambda data: behind[data])
    figures[str(shots or "all")] = {"means": means, "furthest_behind": worst, "by": behind[worst]}
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
        met = "reached" if found["by"] <= 0.01 else "NOT reached"
        far = f"furthest behind the best baseline of a set: {100 * found['by']:+.1f} points on {found['furthest_behind']}"
        lines.append(f"  {far} (aim at most 1): {met}.")
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
    figures[data] = {shots: _mean(cells, data, shots, "auto") for shots in counts}
    return [*lines, ""]
