"""The result page of benchmarks/trojans.py, from its finished cells."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

ROUNDING = 1e-4  # points: accuracies are float32 shares of 1,000 images

Row = dict[str, Any]
PLANNED = 40  # clean models, and Trojaned ones, a data set
TITLES = {
    "wash": "Wash",
    "strengthen": "Strengthening",
    "source": "Inspection of EfficientNet-Lite0",
    "survival": "Does a Trojan survive reprogramming?",
}


def page(rows: list[Row]) -> tuple[str, dict[str, Any]]:
    """Markdown, and the figures of the last line."""
    figures: dict[str, Any] = {}
    lines: list[str] = []
    sections = {
        "wash": washing,
        "strengthen": strengthening,
        "source": default_source,
        "survival": survival,
    }
    for stage, write in sections.items():
        cells = [row for row in rows if row["stage"] == stage]
        if cells:
            text, figures[stage] = write(cells)
        else:
            text = [f"## {TITLES[stage]}", "", "Not measured."]
        lines += [*text, ""]
    return "\n".join(lines), figures


def washing(cells: list[Row]) -> tuple[list[str], dict[str, Any]]:
    examples = cells[0]["examples"]
    shapes = ", ".join(f"{count} {name}" for name, count in Counter(row["architecture"] for row in cells).items())
    lines = [
        f"## {TITLES['wash']}",
        "",
        f"{len(cells)} Trojaned models ({shapes}) whose trigger works (attack success at least 95%), {examples} clean "
        "examples for every "
        "way. The paths join a model to another Trojaned one of its architecture with another trigger and target; *other "
        "trigger* is the success of that one. Medians over the models; measured on test images that chose nothing.",
        "",
        "| | clean accuracy | clean accuracy lost, points | attack success | other trigger | at most 15% at 2 points |",
        "|---|---|---|---|---|---|",
    ]
    figures: dict[str, Any] = {}
    for name in cells[0]["models"]:
        clean, success, other, lost = (
            np.array([_figure(row, name, key) for row in cells])
            for key in ("clean", "success", "partner_success", "lost")
        )
        good = int(((success <= 0.15) & (lost <= 2.0 + ROUNDING)).sum())
        figures[name] = {
            "clean": float(np.median(clean)), "lost": float(np.median(lost)), "success": float(np.median(success)),
            "partner_success": float(np.median(other)), "good": good, "models": len(cells),
        }  # fmt: skip
        f = figures[name]
        lines.append(
            f"| {name.replace('_', ' ')} | {f['clean']:.1%} | {f['lost']:.1f} | {f['success']:.1%} | "
            f"{f['partner_success']:.1%} | {good} of {len(cells)} |"
        )
    path = figures["bezier"]
    so_far = "" if len(cells) >= PLANNED // 2 else " by the few that are measured"
    reached = path["success"] <= 0.15 and path["lost"] <= 2.0 + ROUNDING
    better = all(path["success"] < f["success"] for n, f in figures.items() if n in BASELINES)
    lines += [
        "",
        f"Bezier path: attack success {path['success']:.1%} at {path['lost']:.1f} points of clean accuracy (medians), wanted at "
        f"most 15% at 2 points: {'reached' if reached else 'not reached'}{so_far}; attack success "
        f"{'below' if better else 'not below'} that of every baseline. *Strong fine-tuning* has ten times the rate. With one "
        "model alone the second end is its fine-tuned copy, which lies in the same valley.",
    ]
    return lines, figures


BASELINES = ("fine_tuning", "fine_pruning", "noise", "strong fine-tuning")


def _figure(row: Row, name: str, key: str) -> float:
    if key == "lost":
        return 100 * (row["models"]["as it came"]["clean"] - row["models"][name]["clean"])
    return float(row["models"][name][key])


def strengthening(cells: list[Row]) -> tuple[list[str], dict[str, Any]]:
    first = cells[0]
    lines = [
        f"## {TITLES['strengthen']}",
        "",
        f"A small CNN ({first['architecture']}) on MNIST, 28 x 28, trained plainly and then strengthened on {first['train']:,} "
        f"images for {first['epochs']} epochs with one thread; accuracy on {first['n']:,} test images, clean and under "
        "APGD-CE and APGD-DLR (30 steps, linf 0.1).",
        "",
        "| | clean before | robust before | clean after | robust after | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in cells:
        before, after = row["before"], row["after"]
        lines.append(
            f"| {row['name']} | {before['clean']:.1%} | {before['robust']:.1%} | {after['clean']:.1%} | "
            f"{after['robust']:.1%} | {row['seconds']:.0f} |"
        )
    good = [
        r["name"] for r in cells if r["after"]["robust"] >= 0.8 and r["after"]["clean"] >= 0.97 and r["seconds"] <= 600
    ]
    reached = f"reached by {', '.join(good)}" if good else "not reached"
    lines += ["", f"Wanted: at least 80% robust at 97% clean in 10 minutes: {reached}."]
    return lines, {row["name"]: {k: row[k] for k in ("before", "after", "seconds")} for row in cells}


def default_source(cells: list[Row]) -> tuple[list[str], dict[str, Any]]:
    lines = [
        f"## {TITLES['source']}",
        "",
        "1,000 labels, no data: every label screened, then the most suspicious ones and as many others tested fully; one "
        "thread, beside other work.",
        "",
        "| inspection | wall seconds | processor seconds | verdict |",
        "|---|---|---|---|",
        *(f"| {r['name']} | {r['seconds']:.0f} | {r['cpu_seconds']:.0f} | {r['verdict']} |" for r in cells),
    ]
    limits = {"quick": 180, "full": 1800}
    lines += ["", *(
        f"{r['name'].capitalize()}: wanted at most {limits[r['name']] // 60} minutes: "
        f"{'reached' if r['seconds'] <= limits[r['name']] else 'not reached'}." for r in cells
    )]  # fmt: skip
    lines += [f"{name.capitalize()}: not measured." for name in limits if name not in {r["name"] for r in cells}]
    return lines, {r["name"]: {k: r[k] for k in ("seconds", "cpu_seconds", "verdict", "tests")} for r in cells}


def survival(cells: list[Row]) -> tuple[list[str], dict[str, Any]]:
    lines = [
        f"## {TITLES['survival']}",
        "",
        "Digit readers with a patch trigger, reprogrammed to tell digits from five on from smaller ones (1,000 labels, a trained "
        "perturbation over the whole image, 3 epochs). "
        "Share of the other class that the trigger moves to the target label that gains most; means over the models.",
        "",
        "| output mapping | models | accuracy | trigger before the program | trigger behind the program |",
        "|---|---|---|---|---|",
    ]
    figures: dict[str, Any] = {}
    for output in dict.fromkeys(row["output"] for row in cells):
        here = [row for row in cells if row["output"] == output]
        means = [
            float(np.mean([value for row in here if (value := read(row)) is not None]))
            for read in (
                lambda row: row["accuracy"],
                lambda row: row["before the program"]["value"],
                lambda row: row["behind the program"]["value"],
            )
        ]
        figures[output] = dict(zip(("accuracy", "before", "behind"), means, strict=True))
        lines.append(f"| {output} | {len(here)} | {means[0]:.1%} | {means[1]:.1%} | {means[2]:.1%} |")
    return lines, figures
