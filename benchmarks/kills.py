"""Runs that are killed again and again: nothing is lost, nothing is paid for twice, the end is that of a run left alone.

    python benchmarks/kills.py                         # 20 kills: 8 of a search over routes, 7 of stages, 5 of task=propose
    python benchmarks/kills.py --routes 15 --stages 0 --propose 0

Each life of a design run is ended by SIGKILL once it has paid for a few more molecules; the last one goes to the end. The oracle
notes every molecule that it is asked about. Answers are written about every two seconds; what a kill loses before that is asked
again. ``task=propose`` pays with the features of its candidates and with rounds of a campaign: two rounds, the second with the
first's proposals measured, killed at moments spread over their course.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import append_line, read_lines, versions, write_page
from common import machine as computer

from molecules.benchmark import zinc_start
from molecules.chemistry import parse
from molecules.oracles.descriptor import descriptor
from molecules.routes.route import replay
from reprogram import cli, machine

PAGE = Path(__file__).parents[1] / "docs" / "results" / "kills.md"
REAGENTS = Path(__file__).with_name("common_reagents.smi")
BUDGET = 150
ORACLE = """
import os, time
from rdkit import Chem
from rdkit.Chem.QED import qed

def score(smiles):
    time.sleep(0.02)
    with open(os.environ["ASKED"], "a") as file:
        file.write(smiles + "\\n")
    return qed(Chem.MolFromSmiles(smiles))
"""
OWN = ["task=design", "oracle=function", "oracle.function=noting:score", "parallel.backend=serial", f"blocks.path={REAGENTS}"]
DESIGNS = {
    "routes": [*OWN, "start=smiles", "start.smiles=CCO", "search=routes", "search.initial=30", f"budget={BUDGET}"],
    "stages": [
        *(*OWN, "start=example", "start.path=example.smi"),
        "stages=[{budget: 60, search: surrogate}, {budget: 40, constraints: none, search: stoned}, {budget: 50, search: routes}]",
    ],
}


def live(words: list[str], log: Path, over: Callable[[float], bool] | None) -> bool:
    """Run in a process of its own until ``over`` (of the seconds since its start), then kill; True where it came to its end."""
    process, began = machine.fork(), time.monotonic()
    if process == 0:
        os.environ["ASKED"], sys.argv = str(log), ["train.py", *words]
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # until this process ends
        try:
            cli.main()
        finally:
            os._exit(0)
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if over is not None and over(time.monotonic() - began):
            os.kill(process, machine.KILL)
            os.waitpid(process, 0)
            return False
        time.sleep(0.01)
    return True


def asked(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as opened:
        return list(csv.DictReader(opened))


# Design runs ----------------------------------------------------------------------------------------------------------


def journals(folder: Path) -> list[list[str]]:
    """Molecules whose answers are kept, by stage; a line that a kill has cut is none."""
    stages = sorted((folder / "stages").glob("*.jsonl")) or [folder / "calls.jsonl"]
    texts = [file.read_text().splitlines() if file.exists() else [] for file in stages]
    return [[json.loads(line)["smiles"] for line in lines if line.endswith("}")] for lines in texts]


def paid_twice(before: list[list[str]], after: list[list[str]], new: list[str]) -> int:
    """Molecules of ``new`` (asked about in one life, in order) that the journal of their stage held before."""
    twice, at = 0, 0
    for stage in range(max(len(before) - 1, 0), len(after)):
        kept = before[stage] if stage < len(before) else []
        own = len(after[stage]) - len(kept) if stage < len(after) - 1 else len(new) - at
        twice += len(set(kept) & set(new[at : at + own]))
        at += own
    return twice


def design(home: Path, name: str, kills: int) -> dict[str, Any]:
    """Figures of a design run that was killed so often, beside one that was not."""
    whole, killed, log = home / f"{name}_whole", home / f"{name}_killed", home / f"{name}.txt"
    live([*DESIGNS[name], f"run_dir={whole}"], home / f"{name}_whole.txt", None)
    done = twice = 0
    ended = False
    while not ended:
        resume = ["resume=true"] if (killed / "recipe.json").exists() else []
        kept, before = journals(killed), len(asked(log))

        def enough(_: float, before: int = before) -> bool:
            return len(asked(log)) >= before + BUDGET // (kills + 1)

        ended = live([*DESIGNS[name], f"run_dir={killed}", *resume], log, enough if done < kills else None)
        twice += paid_twice(kept, journals(killed), asked(log)[before:])
        done += not ended
    mine, theirs = rows(killed / "molecules.csv"), rows(whole / "molecules.csv")
    calls = sum(map(len, journals(killed)))
    return {
        "kills": done,
        "evaluated": calls,
        "same_as_whole": all((whole / f).read_bytes() == (killed / f).read_bytes() for f in ("molecules.csv", "calls.jsonl")),
        "paid_twice": twice,
        "asked_again_because_not_yet_written": len(asked(log)) - calls,
        "lost": len({r["smiles"] for r in theirs} - {r["smiles"] for r in mine}),
        "replayed": sum(replay(row["route"]) == row["smiles"] for row in mine),
    }


# task=propose ---------------------------------------------------------------------------------------------------------


def propose(home: Path, kills: int, candidates: int) -> dict[str, Any]:
    """Two rounds of a campaign, killed and left alone."""
    molecules = zinc_start(candidates + 40, 0)
    pool = home / "pool.smi"
    pool.write_text("\n".join(molecules[40:]) + "\n")
    figures = {"kills": 0, "rounds": 0, "same_as_whole": True, "paid_twice": 0, "lost": 0}
    for name in ("whole", "killed"):
        (home / f"{name}.csv").write_text("smiles,qed\n" + "".join(measured(molecules[:40])))
    for number in (1, 2):
        seconds = -time.monotonic()
        live(words(home, "whole", number), home / "none.txt", None)
        seconds += time.monotonic()
        wanted = kills // 2 if number == 1 else kills - figures["kills"]
        for kill in range(wanted):
            parts = finished(home / "killed.campaign")
            moment = seconds * (kill + 0.7) / wanted
            figures["kills"] += not live(words(home, "killed", number), home / "none.txt", lambda s, at=moment: s >= at)
            figures["paid_twice"] += sum(finished(home / "killed.campaign").get(part) != made for part, made in parts.items())
        parts = finished(home / "killed.campaign")
        live(words(home, "killed", number), home / "none.txt", None)
        figures["paid_twice"] += sum(finished(home / "killed.campaign").get(part) != made for part, made in parts.items())
        theirs, mine = (rows(home / f"{name}_{number}" / "proposal.csv") for name in ("whole", "killed"))
        figures["lost"] += len({r["smiles"] for r in theirs} - {r["smiles"] for r in mine})
        figures["same_as_whole"] &= theirs == mine
        for name, proposed in (("whole", theirs), ("killed", mine)):
            with (home / f"{name}.csv").open("a") as file:
                file.writelines(measured([row["smiles"] for row in proposed]))
    figures["rounds"] = len(list((home / "killed.campaign").glob("round_*.json")))
    return figures


def words(home: Path, name: str, number: int) -> list[str]:
    """The command of a round; given again after a kill as it is."""
    table = ["task=propose", f"table.path={home / name}.csv", "goals.qed=maximize", f"candidates={home / 'pool.smi'}"]
    folder = home / f"{name}_{number}"
    return [*table, f"run_dir={folder}", *(["resume=true"] if folder.exists() else [])]


def measured(smiles: list[str]) -> list[str]:
    """Lines of a table with QED in the place of a measurement."""
    values = [descriptor("qed")(mol) for text in smiles if (mol := parse(text)) is not None]
    return [f"{text},{value:.6f}\n" for text, value in zip(smiles, values)]


def finished(campaign: Path) -> dict[str, int]:
    """Parts of the candidates whose features are kept, and when each was written."""
    return {str(file): file.stat().st_mtime_ns for file in campaign.glob("candidates_*/*")}


TITLES = {"routes": "`search=routes`", "stages": "`stages=[…]`, three of them", "propose": "`task=propose`, two rounds"}


def page(found: dict[str, Any]) -> str:
    """The result page of one line of ``--cells``."""
    figures = found["figures"]
    kills = sum(row["kills"] for row in figures.values())
    clean = all(row["same_as_whole"] and not row["paid_twice"] and not row["lost"] for row in figures.values())
    text = [
        f"{kills} kills by SIGKILL ({found['machine']}); "
        + ("nothing was lost, nothing was paid for twice, every end is that of a run left alone." if clean else "**not clean**."),
        "A life of a design run is ended once it has paid for a few more molecules; the last goes to the end. *Asked again*: "
        "answers that a kill cut off before they were written, which is done about every two seconds. `task=propose` pays with "
        "the features of its candidates; it is killed at moments spread over its two rounds.",
        "",
        "| run | kills | molecules | same files as without kills | lost | paid for twice | asked again |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in figures.items():
        same, again = "yes" if row["same_as_whole"] else "**no**", row.get("asked_again_because_not_yet_written", "–")
        cells = [TITLES[name], row["kills"], row.get("evaluated", "–"), same, row["lost"], row["paid_twice"], again]
        text.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=8, help="kills of a search over routes")
    parser.add_argument("--stages", type=int, default=7, help="kills of a run of three stages")
    parser.add_argument("--propose", type=int, default=5, help="kills of two rounds of task=propose")
    parser.add_argument("--candidates", type=int, default=16_000, help="of task=propose")
    parser.add_argument("--cells", type=Path, default=Path("outputs/benchmarks/kills.jsonl"), help="a line a finished benchmark")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--table-only", action="store_true", help="run nothing, write the page from the last line of --cells")
    options = parser.parse_args()
    if not options.table_only:
        found = {"benchmark": "kills", "figures": killed(options), "versions": versions(), "machine": computer()}
        append_line(options.cells, json.dumps(found))
        print(json.dumps(found))
    lines = [line for line in read_lines(options.cells) if line.get("benchmark") == "kills"]
    text = page({"machine": "machine not noted"} | lines[-1])
    write_page(options.page, "Runs that are killed", "python benchmarks/kills.py", text)


def killed(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Figures of each kind of run."""
    figures: dict[str, dict[str, Any]] = {}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        os.chdir(home)
        (home / "noting.py").write_text(ORACLE)
        sys.path.insert(0, place)
        for name in DESIGNS:
            if getattr(options, name):
                figures[name] = design(home, name, getattr(options, name))
        if options.propose:
            figures["propose"] = propose(home, options.propose, options.candidates)
        os.chdir(before)
    for name, found in figures.items():
        print(name, *(f"  {key}: {value}" for key, value in found.items()), sep="\n", flush=True)
    return figures


if __name__ == "__main__":
    main()
