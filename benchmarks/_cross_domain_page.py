"""The result page of cross_domain.py, from its finished cells."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from scipy.stats import t

READINGS = ("linear", "several layers", "label mapping")
COLUMNS = ("text", "untrained map", "trained map", "soft prompt", "random weights, untrained map", "random weights, trained map")
BASELINES = ("text", "untrained map")
Cell = dict[str, Any]
Found = dict[tuple[str, str, int, str], dict[int, Cell]]


def page(cells: list[Cell], first_seed: int, epochs: int) -> str:
    found: Found = defaultdict(dict)
    for c in cells:
        found[c["source"], c["target"], c["labels"], c["row"]][c["seed"]] = c
    lines = [
        "ROC-AUC (several classes: each against the rest, averaged; esol: Spearman's rank correlation), seeds from",
        f"{first_seed} on (epochs and learning rates were chosen on seeds 0 and 1). Mean over draws ± standard deviation.",
        f"The map is `token_map` of the target's tokens, trained for {epochs} epochs under a linear layer; *several layers* is a",
        "ridge on six layers fitted behind it; *label mapping* is `output=bayesian` on the source's own labels, and what stands",
        "in front was trained under it. Unknown: the share of characters without a token of the source, from which on",
        f"`program=auto` races maps (5 %). Measured on {', '.join(sorted({c['device'] for c in cells}))}.",
        "",
        "| source | target | labels | unknown | draws | reading | " + " | ".join(COLUMNS) + " | trained minus untrained |",
        "|" + "---|" * (7 + len(COLUMNS)),
    ]
    for key in dict.fromkeys((c["source"], c["target"], c["labels"]) for c in cells):
        lines += _rows(key, found)
    told = "Intervals are 95 % intervals of the mean over draws (Student's t); an empty cell was not run, or does"
    told += " not exist; (n): of fewer draws."
    return "\n".join([*lines, "", told, "", *_auto(cells, found)])


def _rows(key: tuple[str, str, int], found: Found) -> list[str]:
    of = {row: found[(*key, row)] for row in COLUMNS}
    unknown = next(iter(c for row in of.values() for c in row.values()), {}).get("unread", 0.0)
    lines = []
    for reading in READINGS:
        values = {row: {s: c[reading] for s, c in of[row].items() if reading in c} for row in COLUMNS}
        if not any(values.values()):
            continue
        gain = difference(values["trained map"], values["untrained map"])
        shown = [_mean(list(values[row].values()), max(map(len, values.values()))) for row in COLUMNS]
        source, target, labels = key
        draws = max(map(len, values.values()))
        row = [source, target, str(labels), f"{unknown:.0%}", str(draws), reading, *shown, gain]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def difference(first: dict[int, float], second: dict[int, float]) -> str:
    """Mean gain in points over the draws that both have, with its interval."""
    gaps = [100 * (first[s] - second[s]) for s in sorted(first.keys() & second.keys())]
    if not gaps:
        return ""
    gain = f"{np.mean(gaps):+.1f} points"
    if len(gaps) > 2:
        half = float(t.ppf(0.975, len(gaps) - 1)) * np.std(gaps, ddof=1) / len(gaps) ** 0.5
        gain += f" ({np.mean(gaps) - half:+.1f} to {np.mean(gaps) + half:+.1f})"
    return gain


def _mean(values: list[float], draws: int = 0) -> str:
    """Mean ± deviation; how many draws where there are fewer than in the rest of the row."""
    if not values:
        return ""
    fewer = f" ({len(values)})" if len(values) < draws else ""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "") + fewer


def _auto(cells: list[Cell], found: Found) -> list[str]:
    """How far the search is from what the test labels would have picked, and from the best baseline."""
    lines = [
        "## `program=auto`, three minutes",
        "",
        "The best row is picked by the test labels of each draw; the best baseline (text, untrained map) on average over draws.",
        "Differences are in points.",
        "",
        "| source | target | labels | draws | `auto` | best row | within 1 point | best baseline | difference | chosen |",
        "|" + "---|" * 10,
    ]
    near: list[bool] = []
    gaps: list[float] = []
    for key in dict.fromkeys((c["source"], c["target"], c["labels"]) for c in cells if c["row"] == "auto"):
        autos, best, baseline = _compared(key, found)
        if not autos:
            continue
        close = [a >= b - 0.01 for a, b in zip(autos, best, strict=True)]
        near, gaps = near + close, [*gaps, 100 * (float(np.mean(autos)) - baseline)]
        row = [*map(str, key), str(len(autos)), _mean(autos), _mean(best), f"{sum(close)} of {len(close)}", f"{baseline:.3f}"]
        names = Counter(c["chosen"] for c in found[(*key, "auto")].values() if "chosen" in c)
        chosen = "; ".join(f"{name} ({count})" for name, count in names.most_common())
        lines.append("| " + " | ".join([*row, f"{gaps[-1]:+.1f}", chosen]) + " |")
    if not near:
        return []
    told = f"`auto` is within 1 point of the best row in {np.mean(near):.0%} of {len(near)} cells; it is "
    return [*lines, "", told + f"{np.mean(gaps):+.1f} points from the best baseline on average, at least {min(gaps):+.1f}."]


def _compared(key: tuple[str, str, int], found: Found) -> tuple[list[float], list[float], float]:
    """(``auto`` of each draw, the best row of each, the mean of the best baseline) over draws that have every row."""
    autos, best = [], []
    baseline: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed, cell in sorted(found[(*key, "auto")].items()):
        rows = {row: found[(*key, row)].get(seed, {}) for row in COLUMNS[:4]}
        values = {(row, r): c[r] for row, c in rows.items() for r in READINGS if r in c}
        if not all(rows.values()):
            continue
        autos.append(cell["auto"])
        best.append(max(values.values()))
        for pair, value in values.items():
            if pair[0] in BASELINES:
                baseline[pair].append(value)
    return autos, best, max((float(np.mean(v)) for v in baseline.values()), default=float("nan"))
