"""The table of ``few_label_vision.py``: mean and interval over seeds, and which goals are reached."""

from __future__ import annotations

import argparse
import platform
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import read_lines
from scipy.stats import t as student

from reprogram import __version__
from reprogram.result import write_atomically

DATA = ("digits", "mnist", "cifar10-small")
GROUPS = {
    "baseline": "Baselines",
    "label mapping": "Programs without a prompt and without a linear output",
    "linear output": "Programs without a prompt, with a linear output",
    "trained prompt": "Trained prompts, label mapping",
    "trained prompt, linear output": "Trained prompts, linear output",
}
GOALS = {"digits": 0.80, "mnist": 0.78, "cifar10-small": 0.64}

Cells = dict[tuple[int, str, str], dict[str, list[float]]]  # (shots, group, row) -> data -> accuracies


def interval(values: list[float]) -> float | None:
    """Half a 95% t-interval of the mean over seeds; None for one seed."""
    if len(values) < 2:
        return None
    return float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def shown(values: list[float] | None) -> str:
    if not values:
        return "–"
    half = interval(values)
    return f"{np.mean(values):.3f}" + ("" if half is None else f" ± {half:.3f}")


def write_table(cells_file: Path, path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Write the Markdown page, print it, and return its figures."""
    cells: Cells = defaultdict(lambda: defaultdict(list))
    settings: dict[str, str] = {}
    records = read_lines(cells_file)
    for cell in records:
        cells[cell["shots"], cell["group"], cell["row"]][cell["data"]].append(cell["accuracy"])
        settings[cell["row"]] = cell["setting"]
    lines = [*head(args, records), *advice(cells, min(args.shots)), *unmeasured(args, records), *goals(cells, min(args.shots))]
    for shots in sorted({cell["shots"] for cell in records}):
        lines += ["", f"## {shots} labels a class"]
        for group, title in GROUPS.items():
            rows = {row: data for (s, g, row), data in cells.items() if s == shots and g == group}
            if rows:
                lines += ["", f"### {title}", "", *table(rows, settings)]
    text = "\n".join(lines) + "\n"
    write_atomically(path, text)
    print(text)
    figures = [
        {
            "shots": s,
            "group": g,
            "row": r,
            "data": d,
            "mean": float(np.mean(v)),
            "interval": interval(v),
            "seeds": len(v),
        }
        for (s, g, r), data in cells.items()
        for d, v in data.items()
    ]
    versions = {"reprogram": __version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"benchmark": "few_label_vision", "figures": figures, "seeds": args.seeds, "versions": versions}


def table(rows: dict[str, dict[str, list[float]]], settings: dict[str, str]) -> Iterable[str]:
    yield "| program | digits | MNIST | CIFAR-10 | mean | seeds |"
    yield "|---|---|---|---|---|---|"
    for row, data in sorted(rows.items(), key=lambda item: -mean(item[1])):
        seeds = sorted({len(data[d]) for d in DATA if d in data})
        whole = f"{mean(data):.3f}" if all(data.get(d) for d in DATA) else "–"
        name = row + (f" ({settings[row]})" if settings[row] else "")
        counts = "–".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        yield f"| {name} | " + " | ".join(shown(data.get(d)) for d in DATA) + f" | {whole} | {counts} |"


def mean(data: dict[str, list[float]]) -> float:
    return float(np.mean([np.mean(data[d]) for d in DATA if data.get(d)]))


def head(args: argparse.Namespace, records: list[dict[str, Any]]) -> list[str]:
    sizes = {d: next((c["n"] for c in records if c["data"] == d), 0) for d in DATA}
    return [
        "# Few labels, frozen EfficientNet-Lite0",
        "",
        "Written by `python benchmarks/few_label_vision.py --cifar PATH`; no figure is typed by hand.",
        "",
        f"Accuracy on held-out images ({', '.join(f'{d} {n}' for d, n in sizes.items() if n)}), the same for every seed; "
        f"seeds draw the labels. ± is half a 95% t-interval of the mean over seeds. Rows with fewer than {args.seeds} "
        "seeds say so; rows with one seed have no interval.",
        "Settings of programs without a prompt were chosen on other draws (seeds 100 to 104) with the rest of the training pool "
        "as their test set; rates, epochs and sizes of trained prompts were set beforehand and never tuned.",
        "`views` is the image at 96, 128, 160 and 224 px; `inverted` adds the negative at 96, 128 and 160 px; `mirrored` "
        "the mirror image at all four. `none` is 224 px; – is a pair without sense: the negative of a photograph, a mirrored "
        "digit. Trained prompts run at a low source resolution with few steps: their rows say what minutes on a CPU give, not "
        "what 200 epochs at 224 px reach (`peers.md` has some of those).",
    ]


def advice(cells: Cells, shots: int) -> list[str]:
    """What a user should do, in one sentence: the best row without a prompt, with one, and of the baselines."""
    best = {}
    for kind, groups in {"plain": list(GROUPS)[1:3], "trained": list(GROUPS)[3:], "baseline": list(GROUPS)[:1]}.items():
        rows = {r: d for (s, g, r), d in cells.items() if s == shots and g in groups and all(d.get(x) for x in DATA)}
        if not rows:
            return []
        best[kind] = max((mean(data), row) for row, data in rows.items())
    (plain, name), (trained, prompt), (baseline, model) = best["plain"], best["trained"], best["baseline"]
    first, second = ("train", "plain program") if trained > plain else ("do not train a prompt: use", "best trained prompt")
    ahead, behind = ((prompt, trained), (name, plain)) if trained > plain else ((name, plain), (prompt, trained))
    return [
        "",
        f"**With {shots} labels a class, {first} `{ahead[0]}`** ({ahead[1]:.3f} on average over the datasets; {second}: "
        f"`{behind[0]}`, {behind[1]:.3f}; best baseline: {model}, {baseline:.3f}).",
    ]


def unmeasured(args: argparse.Namespace, records: list[dict[str, Any]]) -> list[str]:
    """A sentence on what was asked for and has no row yet, so that nobody takes a partial table for a whole one."""
    groups = ("label mapping", "trained prompt")
    asked = {(d, s, g) for d in DATA for s in args.shots for g in groups} - {
        (d, s, "trained prompt") for d in DATA for s in args.shots[1:]
    }
    missing = sorted(asked - {(c["data"], c["shots"], c["group"]) for c in records})
    if not missing:
        return []
    listed = "; ".join(f"{d}, {s} labels, {'programs' if g == groups[0] else 'trained prompts'}" for d, s, g in missing)
    return ["", f"**This table is incomplete.** Not measured yet: {listed}."]


def goals(cells: Cells, shots: int) -> list[str]:
    """What was aimed at, and what was reached, in sentences."""
    lines = ["", f"## What was aimed at ({shots} labels a class)", ""]
    mappings = {r: d for (s, g, r), d in cells.items() if s == shots and g in ("label mapping", "trained prompt")}
    for data, goal in GOALS.items():
        found = {r: float(np.mean(d[data])) for r, d in mappings.items() if d.get(data)}
        if found:
            best = max(found, key=lambda r: found[r])
            reached = "reached" if found[best] >= goal else "NOT reached"
            lines.append(
                f"- {data}: without a linear output at least {goal:.2f}: {reached}, {found[best]:.3f} by {best} "
                f"(seeds: {len(mappings[best][data])})."
            )
    linear = ("linear output", "trained prompt, linear output")
    programs = {r: d for (s, g, r), d in cells.items() if s == shots and g in linear and all(d.get(x) for x in DATA)}
    probes = {r: d for (s, g, r), d in cells.items() if s == shots and r.startswith("linear probe") and d}
    probes = {r: d for r, d in probes.items() if all(d.get(x) for x in DATA)}
    if programs and probes:
        best = max(programs, key=lambda r: mean(programs[r]))
        for probe, data in probes.items():
            gain = 100 * (mean(programs[best]) - mean(data))
            natural = 100 * float(np.mean(programs[best][DATA[2]]) - np.mean(data[DATA[2]]))
            on_average, on_natural = ("reached" if ok else "NOT reached" for ok in (gain >= 10, natural >= 5))
            lines.append(
                f"- {best} against {probe}: {gain:+.1f} points on average (aim +10: {on_average}), "
                f"{natural:+.1f} on CIFAR-10 (aim +5: {on_natural})."
            )
    return lines
