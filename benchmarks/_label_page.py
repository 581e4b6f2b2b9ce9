"""The page of ``benchmarks/label_budget.py``: tables by data set and pool, what was aimed at, and the forecast's record."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from _label_rivals import RIVALS
from common import versions, write_page

from reprogram.labels.forecast import Evidence, forecast

Cell = dict[str, Any]
Key = tuple[str, int, str, int]  # data set, rows of the pool, arm, labels
RANDOM, CHOSEN, POOLED = "random labels", "chosen labels", ", with the pool"
PROBE = "random labels, linear probe"
IMAGES, STRINGS = ("digits", "mnist", "cifar10-small"), ("bbbp", "amp")
COMMAND = "python benchmarks/label_budget.py --cifar PATH --bbbp PATH"


def write(page: Path, cells: list[Cell], choosing: bool) -> dict[str, Any]:
    """Write the page; returns its figures for the command's last line."""
    means = _means(cells)
    found = {"gains": _gains(means), "needed": _needed(means), "forecast": _record(cells)}
    text = "\n\n".join([_introduction(cells, choosing), *_tables(cells, means), _aims(found), _forecasts(found["forecast"])])
    write_page(page, "How far labels go with a pool, and with a choice of what to label", COMMAND, text)
    return found | {"cells": len(cells), "versions": versions("torch", "scikit-learn")}


def _means(cells: list[Cell]) -> dict[Key, float]:
    values: dict[Key, list[float]] = defaultdict(list)
    for cell in cells:
        values[cell["data"], cell["pool"], cell["arm"], cell["budget"]].append(cell["score"])
    return {key: float(np.mean(value)) for key, value in values.items()}


def _introduction(cells: list[Cell], choosing: bool) -> str:
    judged = "training rows that no setting below may learn from" if choosing else "the test set, the same for every seed"
    seeds = sorted({cell["seed"] for cell in cells})
    return (
        "Accuracy (digits, MNIST, CIFAR-10) and ROC-AUC (BBBP, AMP), judged on " + judged + ". Images: frozen "
        "EfficientNet-Lite0 at 128 px, one view; the linear probe at its own 224 px. Strings: frozen MiniLM, six layers, "
        "with descriptors or composition beside. A seed draws the pool and the random labels, whose classes nobody knows; "
        f"a set that happens to hold one class is left out. Seeds: {', '.join(map(str, seeds))}. `random labels` and "
        "`chosen labels` are `output=ridge_taps` without the pool; `with the pool` is `output=blend` as "
        "`reprogram.auto.pool` makes it. Chosen labels come in rounds: the first without any label, each later one with "
        "the labels so far. TypiClust (arXiv 2202.02794) and ProbCover (arXiv 2205.11320) choose on the last features, as "
        "published, and are read by the same two outputs. "
        "Members, shares and spaces were chosen on seeds 0 to 2 with training rows as judges."
    )


def _tables(cells: list[Cell], means: dict[Key, float]) -> list[str]:
    settings = list(dict.fromkeys((cell["data"], cell["pool"]) for cell in cells))
    budgets = sorted({cell["budget"] for cell in cells})
    return [_table(cells, means, name, pool, budgets) for name, pool in sorted(settings)]


def _table(cells: list[Cell], means: dict[Key, float], name: str, pool: int, budgets: list[int]) -> str:
    seeds = len({c["seed"] for c in cells if (c["data"], c["pool"]) == (name, pool)})
    lines = [f"## {name}, pool of {pool:,} (seeds: {seeds})", ""]
    lines += ["| labels | " + " | ".join(map(str, budgets)) + " |", "|---" * (len(budgets) + 1) + "|"]
    rivals = [name + read for name in RIVALS for read in ("", POOLED)]
    for arm in (PROBE, RANDOM, RANDOM + POOLED, *rivals, CHOSEN, CHOSEN + POOLED):
        row = [means.get((name, pool, arm, budget)) for budget in budgets]
        lines.append(f"| {arm} | " + " | ".join("–" if v is None else f"{v:.3f}" for v in row) + " |")
    return "\n".join(lines)


def _gains(means: dict[Key, float]) -> dict[str, float]:
    """Points of chosen labels with the pool over random ones without, by data set, pool and budget."""
    return {
        f"{name} {pool} {budget}": round(100 * (value - means[name, pool, RANDOM, budget]), 1)
        for (name, pool, arm, budget), value in means.items()
        if arm == CHOSEN + POOLED and (name, pool, RANDOM, budget) in means
    }


def _needed(means: dict[Key, float]) -> dict[str, float]:
    """Chosen labels with the pool that do what 160 random ones do for the linear probe (between budgets: by a line)."""
    found = {}
    for name, pool in {(key[0], key[1]) for key in means}:
        aim = means.get((name, pool, PROBE, 160))
        curve = sorted((key[3], v) for key, v in means.items() if key[:3] == (name, pool, CHOSEN + POOLED))
        if aim is None or not curve or max(v for _, v in curve) < aim:
            continue
        at = next(i for i, (_, v) in enumerate(curve) if v >= aim)
        (after, high), (before, low) = curve[at], curve[max(at - 1, 0)]
        found[f"{name} {pool}"] = float(after if at == 0 else round(before + (after - before) * (aim - low) / (high - low)))
    return found


def _aims(found: dict[str, Any]) -> str:
    gains: dict[str, float] = found["gains"]
    at20 = {k: v for k, v in gains.items() if k.endswith(" 20")}
    images = [v for k, v in at20.items() if k.split()[0] in IMAGES]
    strings = [v for k, v in at20.items() if k.split()[0] in STRINGS]
    last = [v for k, v in gains.items() if k.endswith(" 160")]
    lines = ["## What was aimed at", ""]
    if images:
        mean, least = np.mean(images), min(images)
        lines.append(
            f"- 20 labels, images: chosen with the pool at least 17 points above random without, 10 on each: "
            f"{_told(mean >= 17 and least >= 10)}, {mean:.1f} on average, {least:.1f} the least."
        )
    if strings:
        mean = float(np.mean(strings))
        lines.append(f"- 20 labels, strings: at least 7 points on average: {_told(mean >= 7)}, {mean:.1f}.")
    if last:
        lines.append(f"- 160 labels: at least 2 points on average: {_told(np.mean(last) >= 2)}, {np.mean(last):.1f}.")
    worst = min(gains, key=lambda k: gains[k], default="")
    if worst:
        lowest = gains[worst]
        lines.append(f"- Nowhere more than 1 point below: {_told(lowest >= -1)}, worst {lowest:.1f} ({worst} labels).")
    for name, labels in sorted(found["needed"].items()):
        limit = {"digits": 20, "mnist": 20, "cifar10-small": 110}.get(name.split()[0])
        aim = "" if limit is None else f" (aim {limit}: {_told(labels <= limit)})"
        lines.append(f"- {name}: the linear probe's score with 160 random labels takes {labels:.0f} chosen ones{aim}.")
    return "\n".join(lines)


def _told(reached: bool | np.bool_) -> str:
    return "reached" if reached else "NOT reached"


def _record(cells: list[Cell]) -> dict[str, Any]:
    """Forecasts at twice the labels beside what came: mean error in points and share of intervals that hold, by budget."""
    came = {(c["data"], c["pool"], c["seed"], c["arm"], c["budget"]): c for c in cells}
    rows = []
    for (*where, budget), cell in came.items():
        later = came.get((*where, 2 * budget))
        if later is None or cell.get("confidence") is None or not str(where[-1]).endswith(POOLED):
            continue
        said = forecast(Evidence(**{key: cell[key] for key in Evidence.__dataclass_fields__})).twice
        score = later["accuracy"]
        error, held = 100 * abs(said.value - score), said.low <= score <= said.high
        rows.append((budget, where[-1], error, held, score, (*where[:2], where[-1])))
    if not rows:
        return {"cells": 0}
    groups = {"all": rows} | {str(n): [r for r in rows if r[0] == n] for n in sorted({r[0] for r in rows})}
    groups |= {arm: [r for r in rows if r[1] == arm] for arm in (CHOSEN + POOLED, RANDOM + POOLED)}
    return {"cells": len(rows)} | {name: _summary(group) for name, group in groups.items() if group}


def _summary(rows: list[Any]) -> dict[str, float]:
    """Of some forecasts: mean error, share of intervals that hold, and the error of one who knows the mean over seeds."""
    alike: dict[Any, list[float]] = defaultdict(list)
    for budget, _, _, _, came, where in rows:
        alike[*where, budget].append(100 * came)
    several = [np.array(values) for values in alike.values() if len(values) > 1]
    # deviations from a mean of few values are too small by this factor
    known = np.concatenate([np.abs(v - v.mean()) * (len(v) / (len(v) - 1)) ** 0.5 for v in several] or [np.array([np.nan])])
    return {
        "error": round(float(np.mean([row[2] for row in rows])), 1),
        "held": round(float(np.mean([row[3] for row in rows])), 2),
        "known": round(float(np.mean(known)), 1),
    }


def _forecasts(record: dict[str, Any]) -> str:
    if not record["cells"]:
        return ""
    lines = ["## The forecast of the accuracy at twice the labels", ""]
    lines += [
        "Mean error in points, beside the error of one who knows the mean over the seeds of that data set and number of "
        "labels: no forecast from one seed can be expected to do better.",
        "",
        "| labels at hand | mean error | of one who knows the mean | intervals that hold |",
        "|---|---|---|---|",
    ]
    lines += [f"| {n} | {v['error']} | {v['known']} | {v['held']:.0%} |" for n, v in record.items() if n != "cells"]
    whole = record["all"]
    lines += ["", f"Aimed at: 3 points on average: {_told(whole['error'] <= 3)}; 85% held: {_told(whole['held'] >= 0.85)}."]
    return "\n".join(lines)
