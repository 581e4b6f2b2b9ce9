"""What the tests say together, in words that claim no more than they can: never that a model is clean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reprogram.backdoor.detection.examine import EVERY

THRESHOLD = 3.5  # standard deviations above clean reference models; see docs/results/inspection.md for what it costs
STRONG = 2.0  # a single test this many thresholds high is strong evidence by itself


@dataclass(frozen=True)
class TrojanEvidence:
    """One test: its most suspicious label, its score, and how far that is above the reference models.

    z, mad: in standard deviations and in robust ones; None where there is nothing to compare with.
    """

    test: str
    label: int
    score: float
    z: float | None
    mad: float | None
    about: str = ""

    @property
    def unusual(self) -> bool:
        """Is the score beyond the threshold, compared with clean models?"""
        return self.z is not None and self.z >= THRESHOLD


def suspected(found: Sequence[TrojanEvidence]) -> tuple[str, int | None]:
    """(``strong``, ``some`` or ``none``, the label)."""
    unusual = _unusual(found)
    if not unusual:
        return "none", None
    for one in unusual:
        agree = sum(other.label == one.label for other in unusual)
        if agree > 1 or (one.z or 0.0) >= STRONG * THRESHOLD:
            return "strong", one.label
    return "some", unusual[0].label


def verdict(found: Sequence[TrojanEvidence], labels: Sequence[str], left_out: Sequence[str] = ()) -> str:
    """The sentence for people. ``left_out``: tests that could not be made, and why."""
    strength, label = suspected(found)
    tests = ", ".join(e.test for e in found if e.z is not None)
    if not tests:
        named = dict.fromkeys(labels[e.label] for e in found)
        text = "no test could be calibrated, so the result is undecided"
        text += f"; the most suspicious classes are {' and '.join(named)}" if named else ""
    elif strength == "none" or label is None:
        text = f"no evidence found by these tests ({tests})"
    else:
        text = f"{strength} evidence of a Trojan {_does(found, labels[label])} ({tests})"
    return text[0].upper() + text[1:] + "".join(f"; {why}" for why in left_out) + "."


def _unusual(found: Sequence[TrojanEvidence]) -> list[TrojanEvidence]:
    """Most unusual first; last what any trigger does to all classes, whether it takes them to one label or to many."""
    return sorted((e for e in found if e.unusual), key=lambda e: (e.test == EVERY, -(e.z or 0.0)))


def _does(found: Sequence[TrojanEvidence], label: str) -> str:
    return "that moves examples of all classes" if _unusual(found)[0].test == EVERY else f"targeting class {label}"
