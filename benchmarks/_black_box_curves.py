"""Accuracy against queries, one small chart a target, for the page of ``black_box.py``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _black_box_table import INNER, SEARCHED, UNPAID

LINES = {  # program -> how it is drawn
    "linear on log-probabilities": "tab:blue",
    "rgf": "tab:orange",
    "spsa_gc": "tab:red",
    "cma_es": "tab:green",
    "local stand-in": "tab:purple",
}


def curves(rows: Sequence[dict[str, Any]], path: Path) -> bool:
    """Write ``path`` (SVG): mean test accuracy over training queries, on a logarithmic axis. False without anything to draw.

    Searches start at the accuracy of their start; dashed lines are the best white box on the logits and with inner layers.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "black_box", "svg.fonttype": "none"}
    from matplotlib import pyplot

    targets = list(dict.fromkeys(row["target"] for row in rows if row["target"] != "throughput"))
    if not targets:
        return False
    figure, axes = pyplot.subplots(1, len(targets), figsize=(4 * len(targets), 3.4), sharey=True, squeeze=False)
    for axis, target in zip(axes[0], targets, strict=True):
        here = [row for row in rows if row["target"] == target]
        for name, colour in LINES.items():
            points = _line(here, name)
            if points:
                axis.plot(*zip(*points, strict=True), "o-", color=colour, label=name, markersize=4, linewidth=1.4)
        hidden = {"logits": [r for r in here if _whole(r) and r["method"] != INNER]}
        hidden["inner layers"] = [r for r in here if r["method"] == INNER]
        for (name, found), style in zip(hidden.items(), ("--", ":"), strict=True):
            if found:
                best = max(_mean(found, method) for method in {r["method"] for r in found})
                axis.axhline(best, color="gray", linestyle=style, linewidth=1, label=f"white box, {name}")
        axis.set(title=target, xscale="log", xlabel="training queries", xlim=(100, 60_000))
        axis.grid(alpha=0.2)
    axes[0][0].set_ylabel("test accuracy")
    handles = {label: line for axis in axes[0] for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=4, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True


def _line(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """(queries, mean accuracy) of each budget, searches from their start on."""
    served = [r for r in rows if r["method"].startswith(name) and "copy predicts" not in r["method"]]
    if not served:
        return []
    start = [r for r in rows if r["method"] == SEARCHED[0]] if name in SEARCHED or name.startswith("local") else []
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in (*start, *served):
        groups.setdefault((row["method"], row["budget"]), []).append(row)
    points = [
        (statistics.fmean(r["queries"] for r in g), statistics.fmean(r["accuracy"] for r in g)) for g in groups.values()
    ]
    return sorted(points)


def _whole(row: dict[str, Any]) -> bool:
    return row["method"].startswith(UNPAID)


def _mean(rows: Sequence[dict[str, Any]], method: str) -> float:
    return statistics.fmean(r["accuracy"] for r in rows if r["method"] == method)
