"""The page of poisoned few-label sets, from finished cells."""

from __future__ import annotations

from typing import Any

import numpy as np

NAMES = {
    "none": "nothing", "patch": "patch, attacked label", "clean_label": "sinusoid, right label",
    "flipped": "labels flipped", "flipped_to_one": "labels flipped to one class",
}  # fmt: skip
FINDERS = {
    "pattern": "shared pattern", "breadth": "its breadth", "labels": "contradicted labels",
    "spectral": "spectral signature", "neighbours": "deep k-NN",
}  # fmt: skip
GROUPS = [(("none", "flipped", "flipped_to_one"), "without a trigger"), (("patch",), "patch"), (("clean_label",), "sinusoid")]
Cells = list[dict[str, Any]]


def page(cells: Cells) -> str:
    """All tables."""
    cached = [c for c in cells if "+" not in c["program"]]
    prompts = [c for c in cells if "+" in c["program"]]
    seeds = "; ".join(f"{data} {drawn(cached, data)}" for data in dict.fromkeys(c["data"] for c in cached))
    few = f" Trained prompts: seeds {drawn(prompts)}, at 96 px, 15 epochs." if prompts else " Trained prompts were not run."
    lines = [
        "16 labels a class, a share of *all* training images poisoned (10% with right labels: the whole attacked class),",
        f"300 test images; means over seeds ({seeds}).{few}",
        "Thresholds of the finders were chosen on seeds 0 to 5. Frozen EfficientNet-Lite0 at 128 px. Success: the",
        "share of triggered test images of other classes that go to the attacked label and did not without the trigger.",
        f"Machine: {', '.join(sorted({c['machine'] for c in cells}))}.",
        "", "## What reaches the program", "",
        "Success of the trigger (accuracy without it), as learned from the poisoned set; `nothing`: the patch, not taught.",
        "",
    ]  # fmt: skip
    lines += [*reaches(cells), "", "## Without what looks poisoned", ""]
    lines += ["Success (accuracy) of the same program without the suspected examples of both finders.", ""]
    lines += [*reaches(cells, "cleaned"), "", "## Who finds the poisoned examples", ""]
    lines += ["ROC-AUC over all training examples; then the share of the poisoned that are found, and how many clean examples"]
    lines += ["of a set are suspected too.", ""]
    lines += [*finders(cached), "", *summary(cells)]
    return "\n".join(lines)


def drawn(cells: Cells, data: str | None = None) -> str:
    """The seeds of these cells, or of one data set's."""
    return ", ".join(map(str, sorted({c["seed"] for c in cells if data in (None, c["data"])})))


def groups(cells: Cells) -> list[tuple[str, float]]:
    return list(dict.fromkeys((c["attack"], c["share"]) for c in cells))


def reaches(cells: Cells, which: str = "as_poisoned") -> list[str]:
    """A row a program and data set, a column an attack."""
    attacks = groups(cells)
    lines = ["| data | program | " + " | ".join(f"{NAMES[k]} {s:.0%}" if s else NAMES[k] for k, s in attacks) + " |"]
    lines.append("|---" * (2 + len(attacks)) + "|")
    for data in dict.fromkeys(c["data"] for c in cells):
        for program in dict.fromkeys(c["program"] for c in cells):
            told = []
            for attack in attacks:
                own = [c[which] for c in cells if (c["data"], c["program"]) == (data, program) and at(c) == attack]
                told.append(f"{mean(own, 'success'):.2f} ({mean(own, 'accuracy'):.2f})" if own else "–")
            if set(told) != {"–"}:
                lines.append(f"| {data} | {program} | " + " | ".join(told) + " |")
    return lines


def finders(cells: Cells) -> list[str]:
    head = " | ".join(f"{name}: AUC" for name in FINDERS.values())
    lines = [f"| data | poisoned | {head} | found by pattern | by labels | by both | clean ones suspected by both |"]
    lines.append("|---" * (6 + len(FINDERS)) + "|")
    program = cells[0]["program"]
    for data in dict.fromkeys(c["data"] for c in cells):
        for attack, share in groups(cells):
            own = [c["finders"] for c in cells if c["data"] == data and at(c) == (attack, share) and c["program"] == program]
            if not own:
                continue
            auc = [f"{np.mean([f['auc'][n] for f in own]):.3f}" if "auc" in own[0] else "–" for n in FINDERS]
            total = sum(f["poisoned"] for f in own)
            found = [f"{sum(f[n]['found'] for f in own) / total:.0%}" if total else "–" for n in ("pattern", "labels", "both")]
            wrong = np.mean([f["both"]["suspected"] - f["both"]["found"] for f in own])
            told = f"{NAMES[attack]} {share:.0%}" if share else NAMES[attack]
            lines.append(f"| {data} | {told} | " + " | ".join([*auc, *found]) + f" | {wrong:.1f} |")
    return lines


def summary(cells: Cells) -> list[str]:
    """What can be said in words: sets that raise an alarm, and what the attacks keep after leaving the suspects out."""
    lines = ["Sets in which a shared pattern raises the alarm:", ""]
    first = [c for c in cells if c["program"] == cells[0]["program"]]
    for data in dict.fromkeys(c["data"] for c in first):
        told = []
        for kinds, name in GROUPS:
            own = [c["finders"]["pattern"]["suspected"] > 0 for c in first if c["data"] == data and c["attack"] in kinds]
            told.append(f"{name} {sum(own)} of {len(own)}")
        lines.append(f"- {data}: {', '.join(told)}.")
    lines += [
        "",
        "Digits have 8 x 8 pixels, and a window is three of them wide: too few to tell a trigger from a stroke. Where",
        "a whole class is poisoned (sinusoid, 10%), leaving out keeps one example of it, which carries the trigger too: the",
        "alarm tells of it, the program is not repaired. Flipped labels share no pattern; the other labels contradict them.",
    ]
    return lines


def at(cell: dict[str, Any]) -> tuple[str, float]:
    return cell["attack"], cell["share"]


def mean(cells: Cells, key: str) -> float:
    return float(np.mean([c[key] for c in cells]))
