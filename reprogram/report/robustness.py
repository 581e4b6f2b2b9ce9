"""The robustness block: attacks, certificates, estimates and inspections, never in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from reprogram.report.blocks import heading, interval, listing, note, number, table

KINDS = {
    "attack": ("Attacks", "Found failures: the value is the accuracy under the strongest attack found, an upper bound."),
    "certificate": ("Certificates", "Proven bounds: no perturbation of this kind and size reduces it further."),
    "estimate": ("Estimates", "Statistical estimates: neither a proof nor a found failure."),
    "inspection": ("Inspections", "Evidence for or against hidden behaviour of the source, never proof of its absence."),
}


def robustness(rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> list[Markup]:
    """Blocks of a section from ``robustness.rows`` and ``robustness.notes`` of ``result.json``."""
    blocks = []
    for kind, (title, meaning) in KINDS.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        if not of_kind:
            continue
        body = [[_check(row), row["threat"], interval(row), row.get("n")] for row in of_kind]
        blocks += [heading(title), note(meaning), table(["check", "threat", "value", "n"], body), _flags(of_kind)]
        if kind == "attack":
            blocks += _smallest(of_kind)
    return blocks + [note(text) for text in notes]


def _check(row: Mapping[str, Any]) -> str:
    return str(row["check"]).replace("_", " ")


def _flags(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """What should make one doubt a figure, below the table so that it is seen on a phone too; each sentence once."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for flag in row.get("flags") or ():
            said.setdefault(flag["text"], []).append(_check(row))
    return listing(
        [
            Markup('<span class="flag">{}</span> ({})').format(flag, ", ".join(dict.fromkeys(checks)))
            for flag, checks in said.items()
        ]
    )


def _smallest(rows: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Percentiles of the smallest change that fooled the model, and the accuracy that each size leaves."""
    found = [row for row in rows if row.get("percentiles")]
    if not found:
        return []
    shares = list(found[0]["percentiles"])
    body = [[row["threat"], *(_size(row["percentiles"].get(p)) for p in shares)] for row in found]
    blocks = [
        heading("Smallest change that fools it"),
        note(
            "Found by attacks on the examples that are classified correctly, in pixels of the target; the true values may "
            "be smaller."
        ),
        table(["norm", *(f"{p} %" for p in shares)], body),
    ]
    for row in found:
        curve = row.get("curve") or {}
        blocks.append(table([f"size, {row['threat']}", *curve], [["accuracy left", *map(number, curve.values())]]))
    return blocks


def _size(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
