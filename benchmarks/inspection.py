"""Inspect a population of clean and Trojaned models with twelve kinds of trigger: trained here, on real data.

    python benchmarks/inspection.py --cache FOLDER --cifar FOLDER --table docs/results/inspection.md
    python benchmarks/inspection.py --cache FOLDER --cifar FOLDER --stages reference   # the clean models that are shipped

Models are trained once and kept in ``--cache``; finished cells are kept in its ``inspected.jsonl`` and not run again. Tests,
settings and thresholds were chosen on seed 0; the page states seed 1.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from _inspection_page import page
from _population import CIFAR, SIDE, Member, inspected, parts, population
from common import read_lines, versions, write_page

from reprogram.backdoor.detection.examine import Effort, examine
from reprogram.backdoor.detection.maximum_margin import largest_margin
from reprogram.backdoor.detection.reference import SHIPPED
from reprogram.result import write_atomically
from reprogram.sources.small_cnn import SmallCNN

CHOSEN, STATED = 0, 1  # seeds of the population that settings were chosen on, and of the one that is stated
EACH = {"mnist": 2, "digits": 2, "cifar10-small": 1}  # models of a kind in the stated population; one in the other
FEW = {"mnist": 5, "digits": 5, "cifar10-small": 3}  # clean examples a class
EARLIER = ("mnist", "digits")  # where DL-TND and DF-TND are run
SEEDS = 6  # random images of MM-BD
STAGES = ("reference", "stated", "earlier")
Cell = dict[str, Any]


def cell(member: Member, source: SmallCNN, effort: Effort) -> Cell:
    """Every test's value of every label, from the defender's few clean examples a class, and the anchors without data."""
    start = time.process_time()
    found = examine(source, parts(member.data).few(FEW[member.data]), effort)
    seconds = time.process_time() - start
    return vars(member) | {
        "values": {test: values.tolist() for test, values in found.apart().items()},
        "aims": {test: aims.tolist() for test, aims in found.aims.items()},
        "anchors": {"MM-BD": unlimited(source).tolist(), "last layer": last_layer(source).tolist()},
        "seconds": seconds,
    }


def unlimited(source: SmallCNN) -> torch.Tensor:
    """MM-BD as published, but for the optimiser: the largest margin of any input, relative to the usual label's."""
    spec = source.spec
    seeds = torch.rand((SEEDS, spec.channels, spec.size, spec.size), generator=torch.Generator().manual_seed(0))
    found = largest_margin(lambda x: source(x).logits, seeds, torch.arange(len(source.labels)), 30, None)
    return found / found.abs().median() - 1


def last_layer(source: SmallCNN) -> torch.Tensor:
    """What each label's row of the last layer can add at most to its logit, beyond the mean row: its positive part."""
    rows = source.head.weight - source.head.weight.mean(0)
    found = rows.clamp(min=0).sum(1).log()
    return (found - found.median()).detach()


def run(arguments: argparse.Namespace, seed: int, cells: list[Cell], path: Path) -> None:
    done = {row["name"] for row in cells}
    for data in arguments.data:
        members = inspected(data, seed, EACH[data] if seed == STATED else 1)
        members = [m for m in members if seed == STATED or m.kind == "clean"]
        for member, source in population(members, arguments.cache / "models"):
            if member.name in done:
                continue
            cells.append(cell(member, source, Effort()) | {"population": seed})
            with path.open("a") as file:
                file.write(json.dumps(cells[-1]) + "\n")
            print(member.name, f"{cells[-1]['seconds']:.1f} s", flush=True)


def earlier(arguments: argparse.Namespace, cells: list[Cell], path: Path) -> None:
    """DL-TND and DF-TND, which are no longer made by default, on the stated population but for its largest models."""
    known = {row["name"]: row for row in read_lines(path)}
    for row in cells:
        if row["population"] != STATED or row["data"] not in EARLIER or row["data"] not in arguments.data:
            continue
        if row["name"] not in known:
            member = Member(**{key: row[key] for key in Member.__dataclass_fields__})
            source = next(iter(population([member], arguments.cache / "models")))[1]
            effort = Effort(tests=("dl_tnd", "df_tnd"))
            found = examine(source, parts(member.data).few(FEW[member.data]), effort)
            known[row["name"]] = {"name": row["name"], "earlier": {t: v.tolist() for t, v in found.apart().items()}}
            with path.open("a") as file:
                file.write(json.dumps(known[row["name"]]) + "\n")
        row |= known[row["name"]]


def ship(cells: list[Cell]) -> None:
    """Scores of the clean models of seed 0, written where the toolkit reads them."""
    rows = [row for row in cells if row["kind"] == "clean" and row["population"] == CHOSEN]
    found = {test: [max(row["values"][test]) for row in rows] for test in rows[0]["values"]}
    about = f"{len(rows)} clean small CNNs on {', '.join(sorted({row['data'] for row in rows}))}"
    write_atomically(SHIPPED, json.dumps({"about": about, "scores": found}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=Path, default=Path("trojans_cache"))
    parser.add_argument("--cifar", type=Path, help="folder of cifar10-small, with train/ and test/")
    parser.add_argument("--table", type=Path, help="page to write")
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--data", nargs="+", default=list(SIDE), choices=list(SIDE))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.cifar is None and "cifar10-small" in arguments.data:
        raise SystemExit("cifar10-small needs --cifar FOLDER; without it, name the others: --data mnist digits")
    CIFAR["folder"] = arguments.cifar
    arguments.cache.mkdir(parents=True, exist_ok=True)
    path = arguments.cache / "inspected.jsonl"
    cells: list[Cell] = read_lines(path)
    if "reference" in arguments.stages:
        run(arguments, CHOSEN, cells, path)
        ship(cells)
    if "stated" in arguments.stages:
        run(arguments, STATED, cells, path)
    if "earlier" in arguments.stages:
        earlier(arguments, cells, arguments.cache / "earlier.jsonl")
    text, figures = page(cells)
    print(text)
    if arguments.table:
        write_page(arguments.table, "Inspection: twelve kinds of Trojan", "python benchmarks/inspection.py --cifar FOLDER", text)
    print(json.dumps({"figures": figures, "seeds": [CHOSEN, STATED], "versions": versions("torch")}))


if __name__ == "__main__":
    main()
