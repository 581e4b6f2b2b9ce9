"""What a design run leaves behind: ``molecules.csv``, ``.sdf``, ``.png``, ``result.json`` and ``report.html``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from molecules import chemistry
from molecules.auc import auc_top, top_mean
from molecules.constraints import Alerts, Plausible, Precedent
from molecules.counting import counted
from molecules.objective import Objective, Scored, hypervolume, pareto
from molecules.oracles.descriptor import descriptor
from molecules.precedent import RARE, unusual
from molecules.routes.drawing import route_picture
from molecules.routes.route import parse_route
from reprogram.report.blocks import details, facts, listing, note, number, picture, pictures, table
from reprogram.report.charts import GOOD, MARK, MUTED, OTHER, axes, curves, svg
from reprogram.report.page import Page
from reprogram.result import write_atomically

if TYPE_CHECKING:
    from molecules.run_search import Found
    from reprogram.hooks import Run

SHOWN, PICTURED, IN_SDF, IN_JSON = 12, 20, 1000, 100
TAKEN = ("row", "input", "smiles", "score", "feasible", "why not", "unusual", "changed", "call", "parent", "reason")
PROPERTIES = ("qed", "mw", "logp", "sa", "tpsa", "rotatable_bonds")


def write(run: Run, found: Found, verdict: str = "") -> str:
    """All files of a run; returns the verdict, one plain sentence (the outcome of a search where none is given)."""
    best = sorted(found.calls, key=lambda s: (s.listed, -s.call), reverse=True)
    feasible = [s for s in best if s.feasible]
    verdict = verdict or verdict_of(found, feasible)
    write_csv(run.dir / "molecules.csv", best, found.objective)
    write_sdf(run.dir / "molecules.sdf", feasible[:IN_SDF], found.objective)
    grid = draw(run.dir / "molecules.png", feasible[:PICTURED])
    run.result.data |= summary(found, feasible, verdict)
    page(found, feasible, verdict, grid).write(run.dir)
    run.result.write(run.dir)  # last: a folder with a result is a finished run
    return verdict


def verdict_of(found: Found, feasible: list[Scored]) -> str:
    """The outcome in one sentence."""
    if not found.calls:
        return f"Nothing was scored: the budget is {found.budget}."
    if not feasible:
        return f"None of {len(found.calls)} scored molecules satisfies all constraints."
    best, first = feasible[0], start_score(found)
    since = "" if first is None else f", from {first:.3f} among the start molecules"
    return f"Best feasible score {best.score:.3f}{since}, found at call {best.call} of {len(found.calls)}."


def start_score(found: Found) -> float | None:
    """The best feasible score among the start molecules."""
    begun = set(found.starts)
    return max((s.score for s in found.calls if s.smiles in begun and s.feasible), default=None)


def feasible_scores(calls: Sequence[Scored]) -> list[float]:
    """Scores in the order of the calls, NaN where a molecule is infeasible."""
    return [s.score if s.feasible else math.nan for s in calls]


def summary(found: Found, feasible: list[Scored], verdict: str) -> dict[str, Any]:
    """The promised keys of a design run's ``result.json`` and further figures."""
    scores = feasible_scores(found.calls)
    return {
        "objective": found.objective.name,
        "budget": found.budget,
        "calls": len(found.calls),
        **{f"auc_top{k}": auc_top(scores, k, found.budget) for k in (1, 10, 100)},
        **{f"top{k}": top_mean(scores, k) for k in (1, 10, 100)},
        "best": [entry(s) for s in feasible[:IN_JSON]],
        "starts": {"molecules": len(found.starts), "best_score": start_score(found)},
        "feasible": len(feasible),
        "failed": sum(math.isnan(s.score) for s in found.calls),
        "diversity": diversity(feasible[:100]),
        "plausibility": plausibility(feasible[:100]),
        "pareto": front(found.objective, feasible),
        "notes": found.notes,
        "cost": found.cost,
        "verdict": verdict,
    }


def entry(scored: Scored) -> dict[str, Any]:
    """A molecule in ``result.json``."""
    keys = ("smiles", "score", "parts", "raw", "constraints", "call", "parent")
    return {key: getattr(scored, key) for key in keys} | ({"told": scored.told} if scored.told else {})


def diversity(best: Sequence[Scored]) -> dict[str, Any]:
    """Of the best molecules: mean pairwise Tanimoto distance (ECFP4, 2,048 bits) and number of scaffolds."""
    mols = [m for s in best if (m := chemistry.parse(s.smiles)) is not None]
    if len(mols) < 2:
        return {"molecules": len(mols), "mean_distance": None, "scaffolds": len(mols)}
    bits = chemistry.fingerprint_matrix(mols)
    alike = chemistry.tanimoto(bits, bits)[np.triu_indices(len(mols), 1)]
    scaffolds = len({chemistry.scaffold(s.smiles) for s in best})
    return {"molecules": len(mols), "mean_distance": float(1 - alike.mean()), "scaffolds": scaffolds}


def plausibility(best: Sequence[Scored]) -> dict[str, Any]:
    """Shares of the best molecules that can exist, hold no unusual ring system and no structural alert, and their mean SA."""
    mols = [m for s in best if (m := chemistry.parse(s.smiles)) is not None]
    tests = {"can_exist": Plausible(), "known_ring_systems": Precedent(environments=0), "without_alerts": Alerts()}
    shares = {name: share([t.violation(m) == 0 for m in mols]) for name, t in tests.items()}
    return {"molecules": len(mols), **shares, "mean_sa": share([descriptor("sa")(m) for m in mols])}


def share(values: Sequence[float]) -> float | None:
    """The mean of shares; None of none."""
    return float(np.mean(values)) if values else None


def front(objective: Objective, feasible: Sequence[Scored]) -> dict[str, Any] | None:
    """Of several terms: the molecules that no other beats in all parts, and the volume they dominate above 0."""
    names = [t.name for t in objective.terms]
    if len(names) < 2 or not feasible:
        return None
    values = np.array([[s.parts[name] for name in names] for s in feasible])
    members = [s for s, on_it in zip(feasible, pareto(values)) if on_it]
    volume = hypervolume(values, [0.0] * len(names)) if len(names) <= 6 else None
    return {"terms": names, "hypervolume": volume, "front": [entry(s) for s in members[:IN_JSON]], "size": len(members)}


# Files --------------------------------------------------------------------------------------------------------------


def write_csv(path: Path, scored: Sequence[Scored], objective: Objective) -> None:
    """Every evaluated molecule once, best first; columns say ``(raw)`` for what an oracle answered."""
    terms, constraints = [t.name for t in objective.terms], [c.name for c in objective.constraints.items]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = [*map(part_column, terms), *(f"{t} (raw)" for t in terms), *(f"violates {c}" for c in constraints)]
    added = added_columns(scored, objective)
    writer.writerow(["smiles", "score", "feasible", *header, *added, "unusual", "call", "parent", "reason"])
    for s in scored:
        values = [*(s.parts.get(t) for t in terms), *(s.raw.get(t) for t in terms)]
        values += [s.constraints.get(c) for c in constraints]
        row = [s.score, *values]
        cells = ["" if v is None or math.isnan(v) else repr(float(v)) for v in row]
        known = added_values(s, objective)
        texts = [*(known.get(name, "") for name in added), rare_parts(s.smiles)]
        writer.writerow([s.smiles, cells[0], int(s.feasible), *cells[1:], *texts, s.call, s.parent, s.reason])
    write_atomically(path, text.getvalue())


def write_sdf(path: Path, scored: Sequence[Scored], objective: Objective) -> None:
    """The best feasible molecules with 2D coordinates and their values as properties."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    text = io.StringIO()
    with Chem.SDWriter(text) as writer:
        for s in scored:
            mol = Chem.MolFromSmiles(s.smiles)
            rdDepictor.Compute2DCoords(mol)
            mol.SetProp("_Name", f"call {s.call}")
            values = {"smiles": s.smiles, "score": s.score, "unusual": rare_parts(s.smiles)}
            values |= {"call": s.call, "parent": s.parent}
            values |= added_values(s, objective) | {part_column(name): value for name, value in s.parts.items()}
            values |= {f"{name} (raw)": value for name, value in s.raw.items()}
            for name, value in values.items():
                mol.SetProp(name, str(value))
            writer.write(mol)
    write_atomically(path, text.getvalue())


def part_column(term: str) -> str:
    """The column of a term after its transform. A user's function is often called ``score``, and so is the aggregate."""
    return f"{term} (part)" if term in TAKEN else term


def added_columns(scored: Sequence[Scored], objective: Objective) -> list[str]:
    """Names of what constraints and the search add to the rows of molecules, such as R-groups and routes."""
    of_constraints = [name for c in objective.constraints.items for name in c.columns()]
    return list(dict.fromkeys([*of_constraints, *(name for s in scored for name in s.told)]))


def added_values(scored: Scored, objective: Objective) -> dict[str, str]:
    """What they say of a molecule; the search knows better than a constraint."""
    mol = chemistry.parse(scored.smiles)
    if mol is None:
        return dict(scored.told)
    return {name: text for c in objective.constraints.items for name, text in zip(c.columns(), c.values(mol))} | scored.told


@lru_cache(maxsize=20_000)
def rare_parts(smiles: str) -> str:
    """Ring systems and atom environments that few known molecules have, the rarest first; "" where there are none."""
    mol = chemistry.parse(smiles)
    return "" if mol is None else "; ".join(map(str, unusual(mol)))


def draw(path: Path, scored: Sequence[Scored]) -> bytes | None:
    """PNG grid, best first, scores under each; None and no file where there is nothing to draw."""
    if not scored:
        return None
    png = chemistry.draw_grid([s.smiles for s in scored], [f"{s.score:.3f}  (call {s.call})" for s in scored])
    write_atomically(path, png)
    return png


# Page ---------------------------------------------------------------------------------------------------------------


def page(found: Found, feasible: list[Scored], verdict: str, grid: bytes | None) -> Page:
    """``report.html``."""
    result = Page(title=f"Design: {found.objective.name}", kind="Molecular design", lead=verdict)
    result.section("Notes", listing(found.notes))
    if found.calls:
        result.section("Score against calls", progress_chart(found))
    result.section("Best molecules", pictures([card(s, found.starts) for s in feasible[:SHOWN]]))
    result.section("Routes of the best molecules", *route_blocks(feasible[:SHOWN], found.objective))
    result.section("Parts of the score", parts_table(feasible[:SHOWN], found.objective))
    if len(feasible) > 1:
        result.section("Properties", property_chart(found.starts, feasible[:100]))
    result.section("Trade-offs", pareto_chart(found.objective, feasible))
    result.section("Plausibility of the best 100", facts(plausibility_facts(feasible[:100])))
    result.section("Diversity of the best 100", facts(diversity_facts(feasible, found.starts)))
    result.section("Cost", facts(cost_facts(found)))
    if grid:
        result.section("Grid", details("The best as one picture", picture(grid, "grid of the best molecules")))
    return result


def progress_chart(found: Found) -> Markup:
    """Best score and mean of the best ten against oracle calls."""
    scores = np.array(feasible_scores(found.calls), dtype=float)
    steps = np.unique(np.linspace(1, len(scores), min(len(scores), 200)).astype(int))
    lines = {f"mean of the best {k}": [top_mean(scores[:at], k) for at in steps] for k in (10, 1)}
    return curves(
        {name.replace("mean of the best 1", "best") if name.endswith(" 1") else name: v for name, v in lines.items()},
        x="oracle calls",
        y="score of feasible molecules",
        alt="score against calls",
        steps=[float(s) for s in steps],
        caption="Feasible molecules only; a call on an infeasible molecule counts as well.",
    )


def card(scored: Scored, starts: Sequence[str]) -> Markup:
    """One molecule; what its nearest start molecule does not have is highlighted."""
    origin, alike = nearest_start(scored.smiles, starts)
    drawing = chemistry.draw_svg(scored.smiles, start=origin or None)
    drawing = drawing[drawing.index("<svg") :]
    caption = f"{scored.score:.3f} · call {scored.call}" + (f" · {alike:.2f} like its start" if starts else "")
    rare = rare_parts(scored.smiles)
    caption += f" · unusual: {rare}" if rare else ""
    return Markup(
        "<figure>{}<figcaption>{}<br><code style='overflow-wrap:anywhere'>{}</code></figcaption></figure>"
    ).format(Markup(drawing), caption, scored.smiles)


def route_blocks(best: Sequence[Scored], objective: Objective) -> list[Markup]:
    """A picture of the route of each molecule that has one; all but the first open on a click."""
    found: list[Markup] = []
    for s in best:
        told = added_values(s, objective)
        if " -> " in told.get("route", ""):
            route = parse_route(told["route"])
            title = f"{s.score:.3f} · call {s.call} · {counted(route.steps, 'step')} from {counted(len(route.blocks), 'block')}"
            drawn = route_picture(route, told["blocks"].split(" + "))
            found.append(details(title, drawn) if found else note(title) + drawn)
    return found


def nearest_start(smiles: str, starts: Sequence[str]) -> tuple[str, float]:
    """The most similar start molecule (ECFP4, 2,048 bits) and how similar it is; "" and 0 where there is none."""
    if not starts:
        return "", 0.0
    mols = [chemistry.parse(s) for s in starts]
    prints = [chemistry.bit_fingerprint(m) for m in mols if m is not None]
    mol = chemistry.parse(smiles)
    assert mol is not None  # it was scored
    alike = chemistry.similarity(chemistry.bit_fingerprint(mol), prints)
    return starts[int(alike.argmax())], float(alike.max())


def parts_table(best: Sequence[Scored], objective: Objective) -> Markup:
    """The best molecules with every part of the objective, after and before its transform."""
    terms = [t.name for t in objective.terms]
    added = added_columns(best, objective)
    header = ["SMILES", "score", *terms, *(f"{t} (raw)" for t in terms), *added, "call"]
    rows = []
    for s in best:
        values = [*(s.parts.get(t) for t in terms), *(s.raw.get(t) for t in terms)]
        known = added_values(s, objective)
        rows.append([s.smiles, s.score, *values, *(known.get(name, "") for name in added), s.call])
    return table(header, rows)


def property_chart(starts: Sequence[str], best: Sequence[Scored]) -> Markup:
    """Distributions of start molecules and of the best, one small chart a property."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    groups = {"start": (list(starts)[:500], OTHER), "best": ([s.smiles for s in best], MARK)}
    for name, chart in zip(PROPERTIES, figure.subplots(2, 3).flat):
        function = descriptor(name)
        values = {
            label: [function(m) for s in smiles if (m := chemistry.parse(s)) is not None]
            for label, (smiles, _) in groups.items()
        }
        every = [v for column in values.values() for v in column]
        bins = np.linspace(min(every), max(every) if max(every) > min(every) else min(every) + 1, 16).tolist()
        for label, (_, colour) in groups.items():
            share = np.full(len(values[label]), 1 / max(len(values[label]), 1))
            chart.hist(values[label], bins=bins, weights=share, color=colour, alpha=0.6, label=label)
        chart.set_title(name.replace("_", " "), color=MUTED, fontsize=10)
        chart.tick_params(colors=MUTED, labelsize=9)
        chart.spines[["top", "right"]].set_visible(False)
        chart.spines[["left", "bottom"]].set_color(OTHER)
    figure.axes[0].legend(frameon=False, labelcolor=MUTED, fontsize=9)
    return svg(
        figure, "properties of start molecules and of the best", "Share of molecules; the best 100 against the start."
    )


def pareto_chart(objective: Objective, feasible: Sequence[Scored]) -> Markup:
    """The first two parts against each other; what no molecule beats in both is marked."""
    names = [t.name for t in objective.terms][:2]
    if len(names) < 2 or not feasible:
        return Markup("")
    values = np.array([[s.parts[name] for name in names] for s in feasible])
    figure, chart = axes(4.6, 4.0, *names)
    chart.plot(*values.T, ".", color=OTHER, markersize=3, alpha=0.5, rasterized=len(values) > 3000)
    edge = values[pareto(values)]
    edge = edge[edge[:, 0].argsort()]
    chart.plot(*edge.T, "o-", color=GOOD, markersize=4, linewidth=1)
    whole = front(objective, feasible) or {}
    caption = f"{whole['size']} molecules are beaten by no other in all {len(objective.terms)} parts"
    if whole["hypervolume"] is not None:
        caption += f"; they dominate a volume of {whole['hypervolume']:.3f} above 0"
    return svg(figure, "trade-off between the first two parts", caption + ".")


def plausibility_facts(best: Sequence[Scored]) -> dict[str, Any]:
    """How plausible the best molecules are, for the card; empty where there are none."""
    figures = plausibility(best)
    if not figures["molecules"]:
        return {}
    return {
        "molecules that can exist": f"{figures['can_exist']:.0%}",
        f"every ring system in {RARE} known molecules or more": f"{figures['known_ring_systems']:.0%}",
        "no structural alert (PAINS, BRENK, NIH)": f"{figures['without_alerts']:.0%}",
        "mean SA score (1 easy to 10 hard)": figures["mean_sa"],
    }


def diversity_facts(feasible: Sequence[Scored], starts: Sequence[str]) -> dict[str, Any]:
    """How different the best molecules are from each other and from the starts."""
    best = feasible[:100]
    if not best:
        return {}
    figures = diversity(best)
    alike = [nearest_start(s.smiles, starts)[1] for s in best[:20]]
    return {
        "molecules": figures["molecules"],
        "mean Tanimoto distance": figures["mean_distance"],
        "scaffolds": figures["scaffolds"],
        "mean similarity of the best 20 to their start": float(np.mean(alike)),
    }


def cost_facts(found: Found) -> dict[str, Any]:
    """What the run has cost, for the report."""
    failed = sum(math.isnan(s.score) for s in found.calls)
    return {
        "oracle calls": f"{len(found.calls):,} of {found.budget:,}",
        "without a score": failed,
        "seconds": found.cost.get("seconds"),
        "seconds in the oracle": found.cost.get("oracle_seconds"),
        "calls a second": number(found.cost.get("calls_per_second"), 1),
        "calls taken from the journal": int(found.cost.get("calls_from_journal", 0)),
    }
