"""The robustness block: attacks, certificates, estimates and inspections, never in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from reprogram.report.blocks import heading, interval, note, table

KINDS = {
    "attack": ("Attacks", "Found failures: the value is what is left after the best attack found, an upper bound."),
    "certificate": ("Certificates", "Proven bounds: no perturbation of this kind and size can do worse."),
    "estimate": ("Estimates", "Statistical guesses. Neither a proof nor a found failure."),
    "inspection": ("Inspections", "Evidence for or against hidden behaviour of the source, never an all-clear."),
}


def robustness(rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> list[Markup]:
    """Blocks of a section from ``robustness.rows`` and ``robustness.notes`` of ``result.json``."""
    blocks = []
    for kind, (title, meaning) in KINDS.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        if not of_kind:
            continue
        body = [
            [row["check"], row["threat"], interval(row), row.get("n"), _flags(row.get("flags") or ())]
            for row in of_kind
        ]
        blocks += [heading(title), note(meaning), table(["check", "threat", "value", "n", "flags"], body)]
    return blocks + [note(text) for text in notes]


def _flags(flags: Sequence[str]) -> Markup:
    return Markup(" · ").join(Markup('<span class="flag">{}</span>').format(flag) for flag in flags)
