"""The result page of few_label_text.py, from its finished cells."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from _text_sets import LETTERS, SETS

TITLES = {
    "mean": "mean of names and logistic regressions",
    "names": "`label_names`",
    "auto": "`program=auto`",
    "setfit": "SetFit",
    "layers": "layers and plain features, no names",
    "hidden": "`label_names`, names hidden",
    "probe": "linear probe",
    "tfidf": "TF-IDF",
}
Cell = dict[str, Any]
Found = dict[tuple[str, int, str], dict[int, Cell]]


def page(cells: list[Cell], test: int, first_seed: int) -> str:
    found: Found = defaultdict(dict)
    for cell in cells:
        found[cell["set"], cell["shots"], cell["method"]][cell["seed"]] = cell
    devices = {c["device"] for c in cells if c["method"] == "setfit"} or {"nothing yet"}
    sets = [name for name in SETS if any(c["set"] == name for c in cells)]
    shots = sorted({c["shots"] for c in cells} - {0})
    lines = [
        f"Frozen MiniLM, the first {LETTERS} characters of each text, {test} test texts a set, seeds from {first_seed}",
        "on. Settings were chosen on seeds 0-4; how words and punctuation marks are read, on seeds 0-11 of the training half of",
        "the tweets, tested there. Mean accuracy in % ± standard deviation over draws; in brackets the draws, where they are",
        "not those of the first column. *Mean of names and logistic regressions*: the preferred program of the search, the",
        "mean of `label_names`, `logistic` and `logistic` on words and marks (`output.feature=words`); `label_names` reads",
        "layers, spelling and words. `program=auto` takes that mean unchecked at one label a class. Names hidden: the classes",
        "are called `class 1`, `class 2`, …: what a name that says nothing costs. SetFit (pairs of R = 20 iterations, one",
        "epoch, batches of 16, as in its paper) trains all",
        f"weights of the same encoder on the same draws (here on {', '.join(sorted(devices))}); the rest runs on the CPU.",
        "",
        "## Zero labels",
        "",
        "| set | classes | `label_names` |",
        "|---|---|---|",
    ]
    for name in sets:
        for cell in found[name, 0, "names"].values():
            lines.append(f"| {name} | {cell['classes']} | {100 * cell['accuracy']:.1f} |")
    present = [m for m in TITLES if any(c["method"] == m and c["shots"] for c in cells)]
    lines += ["", "## Few labels", "", "| set | labels a class | " + " | ".join(TITLES[m] for m in present) + " |"]
    lines.append("|" + "---|" * (2 + len(present)))
    for name in sets:
        for few in shots:
            most = len(found[name, few, "mean"])
            row = [_shown(found[name, few, m], most) for m in present]
            lines.append(f"| {name} | {few} | " + " | ".join(row) + " |")
    return "\n".join([*lines, "", *against_setfit(found, sets, shots), "", *times(found, sets, shots)])


def _shown(cells: dict[int, Cell], most: int) -> str:
    if not cells:
        return ""
    values = [100 * c["accuracy"] for c in cells.values()]
    spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}" + (f" ({len(values)})" if len(values) != most else "")


def against_setfit(found: Found, sets: list[str], shots: list[int]) -> list[str]:
    """Ours minus SetFit on the same draws, with the standard error of the mean difference."""
    body: list[str] = []
    means: dict[str, list[float]] = defaultdict(list)
    for name in sets:
        for few in shots:
            other = found[name, few, "setfit"]
            row = [name, str(few), str(len(other))]
            for method in ("auto", "mean", "names"):
                own = found[name, few, method]
                gaps = [100 * (own[seed]["accuracy"] - other[seed]["accuracy"]) for seed in own.keys() & other.keys()]
                error = f" ± {np.std(gaps, ddof=1) / len(gaps) ** 0.5:.1f}" if len(gaps) > 1 else ""
                row.append(f"{np.mean(gaps):+.1f}{error} ({len(gaps)})" if gaps else "")
                if gaps:
                    means[method].append(float(np.mean(gaps)))
            if other:
                body.append("| " + " | ".join(row) + " |")
    if not means:
        return ["## Against SetFit", "", "No cell of SetFit is finished."]
    lines = ["## Against SetFit", ""]
    for method in ("auto", "mean"):
        gaps = means[method]
        if gaps:
            low = f"least {min(gaps):+.1f}; more than 1 point below in {sum(gap < -1 for gap in gaps)} of them"
            average = f"{np.mean(gaps):+.1f} points from SetFit on average over {len(gaps)} pairs of set and labels"
            lines.append(f"- {TITLES[method]}: {average} ({low}).")
    lines += [
        "",
        "Mean difference in points ± its standard error over draws; in brackets the draws that both have.",
        "",
        "| set | labels a class | draws of SetFit | `auto` minus SetFit | mean minus SetFit | `label_names` minus SetFit |",
        "|" + "---|" * 6,
    ]
    return lines + body


def times(found: Found, sets: list[str], shots: list[int]) -> list[str]:
    """Processor seconds where SetFit ran on the CPU too, and what the search chose."""
    lines = [
        "## Processor seconds of reading the training texts and fitting",
        "",
        "| set | labels a class | mean | linear probe | `program=auto` | SetFit | its steps | SetFit / mean |",
        "|" + "---|" * 8,
    ]
    for name in sets:
        for few in shots:
            spent = {
                m: [c["cpu_seconds"] for c in found[name, few, m].values() if "cpu_seconds" in c]
                for m in ("mean", "probe", "auto", "setfit_cpu")
            }
            shown = [f"{np.mean(values):.1f}" if values else "" for values in spent.values()]
            steps = {c["steps"] for c in found[name, few, "setfit_cpu"].values()}
            if spent["mean"]:
                most = np.mean(spent["setfit_cpu"]) if spent["setfit_cpu"] else None
                ratio = f"{most / np.mean(spent['mean']):.0f}" if most else ""
                lines.append(f"| {name} | {few} | " + " | ".join([*shown, ", ".join(map(str, steps)), ratio]) + " |")
    seeds = sorted({seed for (_, _, method), own in found.items() if method == "setfit_cpu" for seed in own})
    lines += ["", f"One thread; SetFit on the CPU: one draw each (seeds {', '.join(map(str, seeds))})."] if seeds else []
    chosen = [c["chosen"] for (_, _, method), cells in found.items() if method == "auto" for c in cells.values()]
    if chosen:
        counted = ", ".join(f"{name} {chosen.count(name)}" for name in sorted(set(chosen), key=chosen.count, reverse=True))
        lines += ["", f"`program=auto` reads from a cache what other rows have read; it chose: {counted}."]
    return lines
