"""What a round leaves behind: ``proposal.csv``, ``proposal.sdf`` and ``proposal.html``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy.special import ndtri

from molecules import chemistry
from molecules.campaign.batch import EXPLORE
from molecules.campaign.campaign import Campaign, Proposal
from molecules.campaign.memory import MeasuredProposal, held_up
from molecules.campaign.property_model import PropertyModel
from molecules.modality import write_sdf
from molecules.routes.drawing import route_picture
from molecules.routes.route import parse_route
from reprogram.report.blocks import code, details, listing, note, number, pictures, table
from reprogram.report.charts import BAD, GOOD, MARK, MUTED, OTHER, WARN, axes, svg
from reprogram.report.page import Page
from reprogram.result import write_atomically

SHOWN = 96  # drawings on the page
LEFT_OUT_SHOWN = 30
COLOURS = (MARK, GOOD, WARN, BAD, OTHER)
TEACH = "Picked for what would be promising if the models were half as sure; a measurement here changes most."
LEVELS = np.linspace(0.1, 0.95, 18)


@dataclass
class CampaignRound:
    """One round, for its files. names: the user's own of measured molecules, by SMILES. cells: the user's own columns of the
    proposals, by ``Proposal.row``. left_out: (row of the file, SMILES or text, reason). added: further columns, by SMILES."""

    number: int
    campaign: Campaign
    proposals: list[Proposal]
    names: Mapping[str, str]
    cells: Mapping[int, Mapping[str, str]]
    id_column: str | None
    outcomes: list[MeasuredProposal]
    verdict: str
    left_out: list[tuple[int, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""
    added: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def name(self, proposal: Proposal) -> str:
        """The user's own name of a candidate, else its row."""
        own = self.cells.get(proposal.row, {}).get(self.id_column or "", "")
        return own or f"row {proposal.row}"

    def nearest(self, proposal: Proposal) -> str:
        """The nearest measured molecule by the user's own name, else its SMILES."""
        return self.names.get(proposal.nearest) or proposal.nearest

    def nearest_values(self, proposal: Proposal) -> dict[str, float]:
        """What was measured of it, by column."""
        measured = self.campaign.measured
        if not proposal.nearest:
            return {}
        row = measured.values[measured.smiles.index(proposal.nearest)]
        return {c: float(v) for c, v in zip(self.campaign.columns, row) if not np.isnan(v)}


def rows_of(found: CampaignRound) -> list[dict[str, Any]]:
    """The rows of ``proposal.csv``: ranked, the user's own columns last."""
    rows = []
    for rank, p in enumerate(found.proposals, 1):
        row: dict[str, Any] = {"rank": rank, "row": p.row, "smiles": p.smiles, "purpose": p.purpose, "why": p.words}
        row["chance"] = "" if p.chance is None else f"{p.chance:.4f}"
        for column, e in p.expected.items():
            row |= {f"{column} predicted": f"{e.value:.6g}", f"{column} low": f"{e.low:.6g}", f"{column} high": f"{e.high:.6g}"}
        row |= {"nearest_measured": p.nearest, "nearest_name": found.names.get(p.nearest, "")}
        row["nearest_similarity"] = f"{p.similarity:.3f}" if p.nearest else ""
        row |= {f"nearest {column}": f"{value:.6g}" for column, value in found.nearest_values(p).items()}
        row |= found.added.get(p.smiles, {})
        for name, cell in found.cells.get(p.row, {}).items():
            row[f"file:{name}" if name in row else name] = cell
        rows.append(row)
    return rows


def write_files(folder: Path, found: CampaignRound) -> None:
    """All files of a round; rows that were left out in ``left_out.csv``."""
    rows = rows_of(found)
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["rank", "row", "smiles"]
    write_atomically(folder / "proposal.csv", _csv(names, [[row.get(n, "") for n in names] for row in rows]))
    write_sdf("smiles", folder / "proposal.sdf", names, iter(rows))
    write_atomically(folder / "left_out.csv", _csv(["row", "molecule", "reason"], found.left_out))
    write_atomically(folder / "proposal.html", page(found).render())


def _csv(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


# Page -----------------------------------------------------------------------------------------------------------------


def page(found: CampaignRound) -> Page:
    """``proposal.html``."""
    goals = "; ".join(map(str, found.campaign.goals))
    result = Page(title=goals[:1].upper() + goals[1:], kind=f"Round {found.number} of a campaign", lead=found.verdict)
    shown = found.proposals[:SHOWN]
    exploit = [card(found, rank, p) for rank, p in enumerate(shown, 1) if p.purpose != EXPLORE]
    explore = [card(found, rank, p) for rank, p in enumerate(shown, 1) if p.purpose == EXPLORE]
    result.section("To make for their promise", pictures(exploit), ranked_by(found) if exploit else "")
    result.section("To make for what they teach", pictures(explore), note(TEACH if explore else ""))
    result.section("Routes", *route_blocks(found, shown))
    result.section("How earlier predictions held up", *held_up_blocks(found))
    result.section("What the models know", *model_blocks(found.campaign))
    result.section("All proposals", proposal_table(found))
    result.section("Left out", *left_out_blocks(found))
    result.section("Notes", listing(found.notes))
    result.section("The next round", *next_blocks(found))
    return result


def route_blocks(found: CampaignRound, proposals: Sequence[Proposal]) -> list[Markup]:
    """Where routes were asked for: one for each proposal, as a picture that opens on a click."""
    blocks = []
    for rank, p in enumerate(proposals, 1):
        told = found.added.get(p.smiles, {})
        if " -> " in told.get("route", ""):
            drawn = route_picture(parse_route(told["route"]), told["blocks"].split(" + "))
            blocks.append(details(f"{rank}. {found.name(p)}: {told['steps']} steps", drawn))
        elif "route" in told:
            blocks.append(note(f"{rank}. {found.name(p)}: {told['route']}"))
    return blocks


def ranked_by(found: CampaignRound) -> Markup:
    """What the order of the batch is; nothing without models."""
    if not found.campaign.models:
        return Markup("")
    words = found.campaign.promise(len(found.proposals)).words
    return note(f"Ranked by {words}. Values are predictions with 90% intervals of a new measurement.")


def card(found: CampaignRound, rank: int, p: Proposal) -> Markup:
    """A drawing, what is expected, why, and the nearest measured molecule."""
    drawing = chemistry.draw_svg(p.smiles, size=(260, 190))
    lines: list[Any] = [Markup("<strong>{}</strong>").format(f"{rank}. {found.name(p)}")]
    for column, e in p.expected.items():
        lines.append(f"{column} {number(e.value, 2)} ({number(e.low, 2)} to {number(e.high, 2)})")
    lines.append(p.words.partition(": ")[2])
    if p.nearest:
        values = ", ".join(f"{c} {number(v, 2)}" for c, v in found.nearest_values(p).items())
        lines.append(f"nearest measured: {found.nearest(p)}, {p.similarity:.2f} alike" + (f" ({values})" if values else ""))
    text = Markup("<br>").join(lines)
    return Markup("<figure>{}<figcaption style='overflow-wrap:anywhere'>{}</figcaption></figure>").format(
        Markup(drawing[drawing.index("<svg") :]), text
    )


def proposal_table(found: CampaignRound) -> Markup:
    """Every proposal in a line."""
    columns = found.campaign.columns
    intervals = [f"{column} (90% interval)" for column in columns]
    head = ["", "candidate", "purpose", "chance", *intervals, "nearest measured", "alike", "SMILES"]
    rows = []
    for rank, p in enumerate(found.proposals, 1):
        cells = [_interval(p.expected.get(c)) for c in columns]
        chance = None if p.chance is None else f"{p.chance:.0%}"
        rows.append([rank, found.name(p), p.purpose, chance, *cells, found.nearest(p), p.similarity, p.smiles])
    return table(head, rows)


def _interval(e: Any) -> str | None:
    return None if e is None else f"{number(e.value, 2)} ({number(e.low, 2)} to {number(e.high, 2)})"


def held_up_blocks(found: CampaignRound) -> list[Markup]:
    """Measured against predicted, and how often intervals of each level held; both grow with the campaign."""
    if not found.outcomes:
        return [note("No earlier proposal has been measured yet. From the next round on, predictions and values are compared.")]
    told = held_up(found.outcomes)
    rows = [[c, t["measured"], f"{t['inside']:.0%}", t["mean_absolute_error"], t["mean_error"]] for c, t in told.items()]
    head = ["column", "proposals measured", "90% intervals that held", "mean absolute error", "mean of measured less predicted"]
    blocks = [table(head, rows)]
    for column in told:
        blocks.append(outcome_chart([o for o in found.outcomes if o.column == column], column))
    blocks.append(calibration_chart(found.outcomes))
    return blocks


def outcome_chart(outcomes: Sequence[MeasuredProposal], column: str) -> Markup:
    """Measured against predicted values with their intervals, a colour a round."""
    figure, chart = axes(5.2, 4.2, f"predicted {column}", f"measured {column}")
    logarithmic = _spans(outcomes)
    for turn in sorted({o.round for o in outcomes}):
        own = [o for o in outcomes if o.round == turn]
        colour = COLOURS[(turn - 1) % len(COLOURS)]
        reach = [[max(o.predicted - o.low, 0) for o in own], [max(o.high - o.predicted, 0) for o in own]]
        at = ([o.predicted for o in own], [o.measured for o in own])
        chart.errorbar(*at, xerr=reach, fmt="o", color=colour, markersize=4, elinewidth=0.6, alpha=0.75, label=f"round {turn}")
    if logarithmic:
        chart.set_xscale("log")
        chart.set_yscale("log")
    ends = [min(min(o.predicted, o.measured) for o in outcomes), max(max(o.predicted, o.measured) for o in outcomes)]
    chart.plot(ends, ends, color=OTHER, linewidth=1)
    chart.legend(frameon=False, labelcolor=MUTED, fontsize=9)
    return svg(figure, f"measured against predicted {column}", "Each proposal when it was proposed; bars are 90% intervals.")


def _spans(outcomes: Sequence[MeasuredProposal]) -> bool:
    values = [v for o in outcomes for v in (o.predicted, o.measured, o.low)]
    return min(values) > 0 and max(values) >= 100 * min(values)


def calibration_chart(outcomes: Sequence[MeasuredProposal]) -> Markup:
    """Share of measured values inside the central interval of each level."""
    figure, chart = axes(4.2, 3.6, "level of the interval", "share that held")
    errors = np.abs([o.error for o in outcomes])
    turns = sorted({o.round for o in outcomes})
    held = [float((errors <= ndtri(0.5 + level / 2)).mean()) for level in LEVELS]
    chart.plot([0, 1], [0, 1], color=OTHER, linewidth=1)
    chart.plot(LEVELS, held, "o-", color=MARK, markersize=3, linewidth=1.5)
    chart.set_xlim(0, 1)
    chart.set_ylim(0, 1)
    span = f"round {turns[0]}" if len(turns) == 1 else f"rounds {turns[0]} to {turns[-1]}"
    caption = f"{len(outcomes)} measured proposals of {span}. Below the line, intervals hold less often than they say."
    return svg(figure, "calibration of the intervals", caption)


def model_blocks(campaign: Campaign) -> list[Markup]:
    """How well left-out measured values are predicted."""
    rows = []
    for column, model, scale in zip(campaign.columns, campaign.models, campaign.scales):
        own = left_out_quality(model)
        rows.append([column + (" (log10)" if scale.log else ""), *own.values()])
    if not campaign.enough:
        return [note("Fewer than four values are measured, so nothing is predicted: the batch covers the candidates.")]
    if not rows:  # nothing could be proposed, so nothing was predicted
        return []
    head = ["column", "measured", "explained variance", "mean absolute error", "90% intervals that hold"]
    head += ["Gaussian process", "random forest"]
    caption = "Each measured molecule predicted without its own value. The last columns are the weights of the two predictors."
    return [table(head, rows, caption=caption)]


def left_out_quality(model: PropertyModel) -> dict[str, Any]:
    """Of a fitted model, on measured values that are no bounds."""
    at, p = model.plain, model.left_out
    errors = (model.values - p.mean)[at]
    inside = np.abs(errors) <= ndtri(0.95) * p.spread[at]
    whole = max(float(model.values[at].var()), 1e-12)
    return {
        "measured": int(at.sum()),
        "explained": 1 - float((errors**2).mean()) / whole,
        "mean_absolute_error": float(np.abs(errors).mean()),
        "inside": float(inside.mean()),
        "gaussian_process": float(model.weights[0]),
        "random_forest": float(model.weights[1]),
    }


def left_out_blocks(found: CampaignRound) -> list[Markup]:
    """Which candidates could not be proposed, folded."""
    if not found.left_out:
        return []
    rows = [list(row) for row in found.left_out[:LEFT_OUT_SHOWN]]
    more = "left_out.csv lists all." if len(found.left_out) > LEFT_OUT_SHOWN else ""
    return [details(f"{len(found.left_out):,} candidates were left out", table(["row", "molecule", "reason"], rows), note(more))]


def next_blocks(found: CampaignRound) -> list[Markup]:
    """How the campaign goes on."""
    text = "Add the measured values to the table and give the same command again: it is the next round."
    return [note(text), code(found.command)] if found.command else [note(text)]


def entry(found: CampaignRound, p: Proposal) -> dict[str, Any]:
    """A proposal as ``result.json`` has it."""
    expected = {c: {"value": e.value, "low": e.low, "high": e.high} for c, e in p.expected.items()}
    nearest = {"smiles": p.nearest, "name": found.names.get(p.nearest), "similarity": p.similarity}
    return {
        "row": p.row, "name": found.name(p), "smiles": p.smiles, "purpose": p.purpose, "why": p.words, "chance": p.chance,
        "expected": expected, "nearest": nearest,
    }  # fmt: skip


def summary(found: CampaignRound) -> dict[str, Any]:
    """The keys of ``result.json``."""
    campaign = found.campaign
    return {
        "round": found.number,
        "goals": {goal.column: str(goal) for goal in campaign.goals},
        "measured": len(campaign.measured.smiles),
        "proposals": [entry(found, p) for p in found.proposals],
        "models": {
            column: left_out_quality(model) | {"log": scale.log, "factor": model.factor}
            for column, model, scale in zip(campaign.columns, campaign.models, campaign.scales)
        },
        "held_up": held_up(found.outcomes),
        "left_out": len(found.left_out),
        "notes": found.notes,
        "verdict": found.verdict,
    }

