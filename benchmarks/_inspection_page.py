"""The result page of benchmarks/inspection.py, from its finished cells."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from reprogram.backdoor.detection.examine import EVERY, MARGIN
from reprogram.backdoor.detection.reference import Reference, of_models
from reprogram.backdoor.detection.verdict import THRESHOLD, TrojanEvidence, suspected
from reprogram.evaluation.metrics import wilson

Row = dict[str, Any]
Judged = dict[str, TrojanEvidence]
STATED = 1
WORKS = 0.9  # attack success from which on a Trojan counts
DRAWS = 2000  # of the bootstrap
ALARMS = 0.05  # share of clean models with a verdict that is wanted at most
WAYS = {"same": "references of the same data", "other": "references of all data"}
TOGETHER = "all tests"
ADVICE = (
    "*No evidence* is not *clean*. Compare with references of the same data where clean models can be had or trained, and repair "
    "a model of doubtful origin whatever the verdict ([wash](wash.md))."
)


def page(cells: list[Row]) -> tuple[str, dict[str, Any]]:
    """Markdown, and the figures of the last line."""
    rows = [row for row in cells if row["population"] == STATED]
    clean = [row for row in rows if row["kind"] == "clean"]
    working = [row for row in rows if row["kind"] != "clean" and row["success"] >= WORKS]
    if len({row["architecture"] for row in clean}) < 3 or not working:
        return "Not measured.", {}
    judged = {way: {row["name"]: judge(row, cells, way) for row in rows} for way in WAYS}
    figures: dict[str, Any] = {"clean": len(clean), "trojaned": len(rows) - len(clean), "working": len(working)}
    lines = [*_intro(rows, clean, working, cells), ""]
    for part in (_overall, _alarms):
        text, figures[part.__name__.strip("_")] = part(clean, working, judged)
        lines += [*text, ""]
    text, figures["kinds"] = _by_kind(rows, clean, judged)
    lines += [*text, "", *_by_data(rows, clean, working, judged), "", *_earlier(clean, working, cells, judged)]
    lines += _honest(figures, clean, working, judged)
    return "\n".join(lines), figures


def judge(row: Row, cells: list[Row], way: str) -> Judged:
    """Each test's evidence, and that of the anchors, by clean models of the other architectures."""
    clean = [c for c in cells if c["kind"] == "clean" and c["architecture"] != row["architecture"]]
    if way == "same":
        clean = [c for c in clean if c["data"] == row["data"]]
    else:
        clean = [c for c in clean if c["population"] != STATED]  # those that are shipped, but for one architecture
    known = of_models([{t: np.array(v) for t, v in {**c["values"], **c["anchors"]}.items()} for c in clean])
    found = {}
    for test, values in {**row["values"], **row["anchors"]}.items():
        one = known[test] if way == "same" else Reference(known[test].scores)
        index, z, mad = one.judge(np.array(values))
        label = row["aims"][test][index] if test in row["aims"] else index
        found[test] = TrojanEvidence(test, int(label), float(values[index]), z, mad)
    return found


def evidence(row: Row, judged: Judged, bare: bool = False) -> list[TrojanEvidence]:
    """What the verdict is made of, with examples or without (``bare``)."""
    return [judged[test] for test in row["values"] if not bare or test == MARGIN]


def score(row: Row, judged: Judged, test: str) -> float:
    if test in judged:
        return float(judged[test].z or 0.0)
    return max(float(e.z or 0.0) for e in evidence(row, judged))


def auc(clean: list[Row], working: list[Row], judged: dict[str, Judged], test: str) -> float:
    if not working:
        return float("nan")
    scores = [score(row, judged[row["name"]], test) for row in (*clean, *working)]
    return float(roc_auc_score([0] * len(clean) + [1] * len(working), scores))


def interval(clean: list[Row], working: list[Row], judged: dict[str, Judged], test: str) -> tuple[float, float]:
    """95% of the bootstrap over models, clean and Trojaned ones apart."""
    a, b = (np.array([score(row, judged[row["name"]], test) for row in some]) for some in (clean, working))
    wins = (b[:, None] > a[None]) + 0.5 * (b[:, None] == a[None])
    draw = np.random.default_rng(0)
    found = [
        wins[draw.integers(len(b), size=len(b))][:, draw.integers(len(a), size=len(a))].mean() for _ in range(DRAWS)
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _intro(rows: list[Row], clean: list[Row], working: list[Row], cells: list[Row]) -> list[str]:
    sets = ", ".join(f"{n} {name}" for name, n in Counter(row["data"] for row in rows).items())
    shapes = ", ".join(f"{n} {name}" for name, n in Counter(row["architecture"] for row in rows).items())
    names = dict.fromkeys(row["data"] for row in rows)
    accuracy = ", ".join(f"{name} {np.mean([r['clean'] for r in rows if r['data'] == name]):.0%}" for name in names)
    return [
        f"{len(clean)} clean and {len(rows) - len(clean)} Trojaned small CNNs ({sets}; {shapes}), trained here on MNIST at 16 "
        "pixels, digits at 8 pixels and cifar10-small at 32 pixels (900 training images and their mirror images, which is why "
        f"these models are poor readers). Mean accuracy: {accuracy}. Twelve kinds of trigger, 4 to 15% poison (all-to-all: 20 "
        f"to 40%). A Trojan counts where its trigger succeeds on {WORKS:.0%} of the test images that the model reads rightly "
        "without it (patch, blended, warped and clean-label on MNIST and digits: of all test images of other classes); "
        f"{len(working)} do.",
        "",
        "Population seed 1; tests, settings and thresholds were chosen on seed 0. Five clean examples a class (cifar10-small: "
        "three). A model is judged by clean models of the *other two* architectures only, in two ways: *references of the same "
        "data* (both seeds, label by label, as with `task.references` and `inspection.train`), and *references of all data* (the "
        "clean models of seed 0, by score alone, as with the shipped ones, which are these). That the largest z by chance is "
        "taken off, label by label, was decided when a part of seed 1 had been seen: with references of the same data, false "
        "alarms and finds are not quite those of an unseen seed. Among the clean models of seed 0 alone it leaves "
        f"{_chosen(cells)}.",
    ]


def _chosen(cells: list[Row]) -> str:
    """False alarms where settings were chosen."""
    known = [row for row in cells if row["population"] != STATED and row["kind"] == "clean"]
    judged = {row["name"]: judge(row, known, "same") for row in known}
    return f"{sum(_word(row, judged) != 'none' for row in known)} false alarms of {len(known)}"


def _overall(clean: list[Row], working: list[Row], judged: dict[str, dict[str, Judged]]) -> tuple[list[str], dict[str, Any]]:
    lines = ["## All kinds", "", "| | needs | " + " | ".join(f"AUC, {w} | named" for w in WAYS.values()) + " |", "|---" * 6 + "|"]
    figures: dict[str, Any] = {}
    anchors = list(clean[0]["anchors"])
    for test in (TOGETHER, *clean[0]["values"], *anchors):
        bare = test == MARGIN or test in anchors
        line = f"| {test}{' (anchor)' if test in anchors else ''} | {'nothing' if bare else 'examples'} |"
        for way in WAYS:
            value, (low, high) = (f(clean, working, judged[way], test) for f in (auc, interval))
            named = np.mean([_named(row, judged[way][row["name"]], test) for row in working if row["kind"] != "all-to-all"])
            figures[f"{test}, {way}"] = {"auc": value, "low": low, "high": high, "named": float(named)}
            line += f" {value:.3f} ({low:.3f}–{high:.3f}) | {'–' if test == EVERY else f'{named:.0%}'} |"
        lines.append(line)
    lines += [
        "",
        "AUC: clean models against Trojaned ones, over all kinds, with the 95% interval of a bootstrap over models. Named: share "
        "of the Trojaned models whose target is the most suspicious label (all-to-all ones have none).",
    ]
    return lines, figures


def _named(row: Row, judged: Judged, test: str) -> bool:
    if test == TOGETHER:
        best = max(evidence(row, judged), key=lambda e: e.z or 0.0)
        return best.label == row["target"]
    return judged[test].label == row["target"]


def _alarms(clean: list[Row], working: list[Row], judged: dict[str, dict[str, Judged]]) -> tuple[list[str], dict[str, Any]]:
    shapes = list(dict.fromkeys(row["architecture"] for row in clean))
    lines = [
        "## False alarms", "", f"Clean models with a verdict, from z = {THRESHOLD:g} on; the references had other architectures.",
        "", "| verdict | " + " | ".join(shapes) + " | all (95% interval) |", "|---" * (len(shapes) + 2) + "|",
    ]  # fmt: skip
    figures: dict[str, Any] = {}
    for way, title in WAYS.items():
        for bare in (False, True):
            for word in ("some or strong", "strong"):
                words = {row["name"]: _word(row, judged[way], bare) for row in clean}
                hits = {name: found in word.split(" or ") for name, found in words.items()}
                name = f"{title}, {'without data' if bare else 'with examples'}: {word}"
                cells = []
                for shape in shapes:
                    here = [hits[row["name"]] for row in clean if row["architecture"] == shape]
                    cells.append(f"{sum(here)} of {len(here)}")
                rate = wilson(sum(hits.values()), len(hits))
                figures[name] = rate["value"]
                cells.append(f"{sum(hits.values())} of {len(hits)} ({rate['low']:.0%}–{rate['high']:.0%})")
                lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines, figures


def _by_kind(rows: list[Row], clean: list[Row], judged: dict[str, dict[str, Judged]]) -> tuple[list[str], dict[str, Any]]:
    lines = [
        "## Kind by kind", "",
        "| trigger | models | that work | mean success | AUC with examples: same data | all data | "
        "without data: same data | all data | strong or some: same data | all data |", "|---" * 10 + "|",
    ]  # fmt: skip
    figures: dict[str, Any] = {}
    for kind in [k for k in dict.fromkeys(row["kind"] for row in rows) if k != "clean"]:
        all_of = [row for row in rows if row["kind"] == kind]
        working = [row for row in all_of if row["success"] >= WORKS]
        found = {f"{test}, {way}": auc(clean, working, judged[way], test) for test in (TOGETHER, MARGIN) for way in WAYS}
        words = {way: [_word(row, judged[way]) for row in working] for way in WAYS}
        figures[kind] = {"models": len(all_of), "working": len(working)} | found
        lines.append(
            f"| {kind} | {len(all_of)} | {len(working)} | {np.mean([row['success'] for row in all_of]):.0%} | "
            + " | ".join("–" if value != value else f"{value:.3f}" for value in found.values())
            + "".join(f" | {w.count('strong')} or {w.count('some')} of {len(w)}" for w in words.values()) + " |"
        )  # fmt: skip
    return lines, figures


def _by_data(rows: list[Row], clean: list[Row], working: list[Row], judged: dict[str, dict[str, Judged]]) -> list[str]:
    lines = [
        "## Data set by data set", "",
        "| data | clean | Trojaned that work | AUC with examples: same data | all data | without data: same data | all data | "
        "seconds a model |", "|---" * 8 + "|",
    ]  # fmt: skip
    for data in dict.fromkeys(row["data"] for row in rows):
        a, b = ([row for row in some if row["data"] == data] for some in (clean, working))
        found = [auc(a, b, judged[way], test) for test in (TOGETHER, MARGIN) for way in WAYS]
        seconds = np.mean([row["seconds"] for row in rows if row["data"] == data])
        lines.append(f"| {data} | {len(a)} | {len(b)} | " + " | ".join(f"{v:.3f}" for v in found) + f" | {seconds:.1f} |")
    return lines


def _earlier(clean: list[Row], working: list[Row], cells: list[Row], judged: dict[str, dict[str, Judged]]) -> list[str]:
    """DL-TND and DF-TND on the models that they were run on, beside the tests of today."""
    known = {row["name"]: row for row in cells if "earlier" in row}
    a, b = ([row for row in some if row["name"] in known] for some in (clean, working))
    if not a or not b:
        return []
    both = [row | {"values": row["earlier"], "anchors": {}} for row in known.values()]
    old = {row["name"]: judge(row, both, "same") for row in both}
    sets = " and ".join(dict.fromkeys(row["data"] for row in a))
    lines = [
        "## Beside DL-TND and DF-TND", "",
        f"On {sets}, {len(a)} clean and {len(b)} Trojaned models, judged by the clean ones of the same data of seed 1.", "",
        "| | AUC (95% interval) |", "|---|---|",
    ]  # fmt: skip
    shown = [(test, old) for test in next(iter(known.values()))["earlier"]] + [(t, judged["same"]) for t in (TOGETHER, MARGIN)]
    for test, found in shown:
        value, (low, high) = auc(a, b, found, test), interval(a, b, found, test)
        lines.append(f"| {test} | {value:.3f} ({low:.3f}–{high:.3f}) |")
    return [*lines, ""]


def _honest(
    figures: dict[str, Any], clean: list[Row], working: list[Row], judged: dict[str, dict[str, Judged]]
) -> list[str]:
    """Against what was wanted, and what a verdict is worth."""
    lines = ["## What it is worth", ""]
    for way, title in WAYS.items():
        name = title.capitalize()
        for test, wanted, what in ((TOGETHER, 0.95, "with a few clean examples"), (MARGIN, 0.85, "without data")):
            value = figures["overall"][f"{test}, {way}"]["auc"]
            lines.append(f"- {name}, {what}: AUC {value:.3f}, wanted at least {wanted:g}: {_reached(value >= wanted)}.")
        value = figures["alarms"][f"{title}, with examples: some or strong"]
        lines.append(f"- {name}: false alarms {value:.1%}, wanted at most {ALARMS:.0%}: {_reached(value <= ALARMS)}.")
        missed = [row for row in working if _word(row, judged[way]) == "none"]
        kinds = ", ".join(f"{kind} {n}" for kind, n in Counter(row["kind"] for row in missed).most_common())
        quiet = np.mean([_word(row, judged[way]) == "none" for row in clean])
        miss = len(missed) / len(working)
        lines.append(
            f"- {name}: of {len(working)} working Trojans {len(missed)} get the verdict *no evidence* ({kinds or 'no kind'}). "
            f"Where one of two models hides such a Trojan, one with *no evidence* still hides it in {miss / (miss + quiet):.0%}."
        )
    return [*lines, "", ADVICE]


def _word(row: Row, judged: dict[str, Judged], bare: bool = False) -> str:
    return suspected(evidence(row, judged[row["name"]], bare))[0]


def _reached(yes: bool) -> str:
    return "reached" if yes else "not reached"
