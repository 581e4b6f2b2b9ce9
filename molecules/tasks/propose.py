"""Which molecules to make and measure next: a table of measured ones and a list of candidates in, a batch with reasons out.

The same command with the grown table is the next round; the folder of the campaign remembers what was proposed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from molecules.campaign.batch import nearest
from molecules.campaign.campaign import Campaign, Proposal
from molecules.campaign.designed import design_candidates
from molecules.campaign.features import MoleculeFeatures
from molecules.campaign.memory import CampaignFolder, MeasuredProposal, held_up
from molecules.campaign.outputs import CampaignRound, summary, write_files
from molecules.campaign.pool import Candidates, cells_of, read_candidates
from molecules.campaign.tables import CandidateTable, MeasuredTable, read_measured
from molecules.chemistry import parse
from molecules.constraints.config import ConstraintConfig
from molecules.constraints.route import Routed
from molecules.counting import counted
from reprogram.hooks import Run
from reprogram.locks import holding
from reprogram.progress import console
from reprogram.ranges import Count, NotEmpty, PositiveShare, Range, Share
from reprogram.report.reproduce import command
from reprogram.tasks._run import start

DESIGN = "design"  # instead of a file of candidates
OPTIONS: dict[str, Any] = {
    "goals": dict,
    "table.path": NotEmpty,
    "table.smiles": NotEmpty | None,
    "table.id_column": NotEmpty | None,
    "table.delimiter": NotEmpty | None,
    "table.decimal": NotEmpty | None,
    "table.encoding": NotEmpty | None,
    "table.sheet": NotEmpty | None,
    "table.censored": NotEmpty | None,
    "table.conflicts": NotEmpty,
    "candidates": NotEmpty,
    "candidates_column": NotEmpty | None,
    "budget": Count,
    "stop_at": float | None,
    "diversity.bucket": Count | None,
    "diversity.min_score": float,
    "batch": Annotated[int, Range(1, 10_000)],
    "campaign": NotEmpty | None,
    "again": bool,
    "explore": Share,
    "near_duplicate": PositiveShare,
    "alike": PositiveShare,
    "log": bool | None,
}


def run(config: DictConfig) -> None:
    """One round, top to bottom."""
    began = time.perf_counter()
    context = start(config)
    settings = context.config
    table = read_measured(settings["table"], {str(k): str(v) for k, v in settings["goals"].items()})
    options = {name: settings[name] for name in ("explore", "near_duplicate", "alike", "log", "seed")}
    campaign = Campaign(table.goals, **options)
    folder = campaign_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder):
        memory = CampaignFolder.of(folder, table.measured)
        outcomes = memory.outcomes(campaign.columns, table.measured)
        campaign.past = [[o.raw_error for o in outcomes if o.column == column] for column in campaign.columns]
        campaign.tell_measured(table.measured)
        source: CandidateTable | None = None
        if settings["candidates"] == DESIGN:
            candidates, found_notes = design_candidates(campaign, settings, context.dir / "calls.jsonl")
            table.notes += found_notes
        else:
            source = CandidateTable(settings["candidates"], settings["candidates_column"], settings["table"])
            candidates = read_candidates(source, folder)
        pending = [] if settings["again"] else memory.pending(table.measured)
        proposals = campaign.ask_of(settings["batch"], candidates.smiles, candidates.features, pending)
        left_out = reasons(campaign, candidates, pending, table.names)
        for proposal in proposals:
            proposal.row = candidates.rows[proposal.row]
        cells = cells_of(source, [p.row for p in proposals]) if source else {}
        found = CampaignRound(
            memory.number, campaign, proposals, table.names, cells, source.id_column if source else None, outcomes,
            verdict(campaign, proposals, outcomes, memory.number, len(candidates)), left_out,
            notes(table, campaign, candidates, proposals, pending, settings), command(),
            routes(settings, [p.smiles for p in proposals]),
        )  # fmt: skip
        write(context, found, time.perf_counter() - began)
        ids = {p.row: found.name(p) for p in proposals}
        memory.keep(campaign, proposals, ids, {"candidates": str(settings["candidates"]), "run": str(context.dir)})
    context.result.write(context.dir)
    for text in found.notes:
        console.print(text, soft_wrap=True, markup=False)
    console.print(f"{found.verdict}\nresults in {context.dir / 'proposal.html'}", soft_wrap=True, markup=False)


def campaign_folder(settings: dict[str, Any]) -> Path:
    """``campaign=``, else ``NAME.campaign`` beside the table."""
    if settings["campaign"] is not None:
        return Path(settings["campaign"]).expanduser()
    path = Path(settings["table"]["path"]).expanduser()
    return path.with_name(path.name.partition(".")[0] + ".campaign")


def write(context: Run, found: CampaignRound, seconds: float) -> None:
    """The files of the round, and what ``result.json`` will hold."""
    write_files(context.dir, found)
    context.result.data |= summary(found) | {"cost": {"seconds": seconds}}


def routes(settings: dict[str, Any], smiles: Sequence[str]) -> dict[str, dict[str, str]]:
    """Columns about the route to each proposal, where ``constraints.route`` asks for one; by SMILES."""
    options: ConstraintConfig = instantiate(settings["constraints"], _convert_="all")
    if not options.route:
        return {}
    finder = Routed(options.blocks, options.route_steps, strict=False)
    found = {text: mol for text in smiles if (mol := parse(text)) is not None}
    return {text: dict(zip(finder.columns(), finder.values(mol))) for text, mol in found.items()}


def reasons(
    campaign: Campaign, candidates: Candidates, pending: Sequence[str], names: dict[str, str]
) -> list[tuple[int, str, str]]:
    """(row, molecule, why) of candidates that cannot be proposed, in the order of the file."""
    measured, waiting = set(campaign.measured.smiles), set(pending)
    near = nearest(candidates.features, campaign.features or MoleculeFeatures.of([]))
    found = [(row, "", reason) for row, reason in candidates.unreadable.items()]
    seen: dict[str, int] = {}
    for i, (row, smiles) in enumerate(zip(candidates.rows, candidates.smiles)):
        like = campaign.measured.smiles[near.row[i]] if near.row[i] >= 0 else ""
        if smiles in measured:
            found.append((row, smiles, "is measured already"))
        elif smiles in waiting:
            found.append((row, smiles, "was proposed before and has no value yet (again=true proposes it again)"))
        elif smiles in seen:
            found.append((row, smiles, f"repeats row {seen[smiles]}"))
        elif near.similarity[i] >= campaign.near_duplicate:
            found.append((row, smiles, f"is nearly the measured molecule {names.get(like) or like} ({near.similarity[i]:.2f})"))
        seen.setdefault(smiles, row)
    return sorted(found, key=lambda entry: entry[0])


def verdict(
    campaign: Campaign, proposals: Sequence[Proposal], outcomes: Sequence[MeasuredProposal], number: int, candidates: int
) -> str:
    """The outcome in a sentence or two."""
    head = f"{counted(len(proposals), 'molecule')} of {counted(candidates, 'candidate')} to make and measure in round {number}"
    known = counted(len(campaign.measured.smiles), "measured molecule")
    text = f"{head}, from {known}."
    chances = [p.chance for p in proposals if p.chance is not None]
    aims = [goal for goal in campaign.goals if goal.aim != "condition"]
    if chances and len(aims) < 2:
        what = "to beat the best measured" if aims else "to meet all goals"
        also = " and meet the conditions" if aims and len(campaign.goals) > 1 else ""
        text += f" {sum(chances):.1f} of them are expected {what}{also}."
    told = held_up(outcomes)
    for column, figures in told.items():
        measured = counted(figures["measured"], "earlier proposal")
        text += f" Of {measured} with a measured {column}, {figures['inside']:.0%} lay in their 90% interval."
    return text


def notes(
    table: MeasuredTable,
    campaign: Campaign,
    candidates: Candidates,
    proposals: Sequence[Proposal],
    pending: Sequence[str],
    settings: dict[str, Any],
) -> list[str]:
    """What a reader should know about the tables and the models."""
    found = list(table.notes)
    for column, scale in zip(campaign.columns, campaign.scales):
        if scale.log and campaign.models:
            found.append(f"Column '{column}' is modelled as logarithms to the base 10 (log=false models the values themselves).")
    if not campaign.enough:
        found.append(
            "A column has fewer than four measured values (bounds do not count): the batch covers the candidates instead of "
            "predicting them."
        )
    if pending:
        found.append(
            f"{counted(len(pending), 'molecule')} of earlier rounds still without a value: not proposed again (again=true does)."
        )
    if len(proposals) < settings["batch"]:
        found.append(f"batch={settings['batch']}, but only {len(proposals)} candidates can be proposed; left_out.csv says why.")
    if candidates.unreadable:
        found.append(f"{counted(len(candidates.unreadable), 'row')} of the candidates cannot be read; left_out.csv names them.")
    return found

