"""QED task in and in front of a frozen encoder-decoder: QMO's latent search, sampled analogues, a reprogrammed generator.

    python benchmarks/qed_latent.py --start qed_start_800.smi

QED >= 0.9 at ECFP4 similarity >= 0.4, the first 20 start molecules, 500 calls each. Finished molecules are kept in
``--cells``; start the same command again to go on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import read_lines, versions, write_page

from molecules import chemistry
from molecules.constraints.config import ConstraintConfig
from molecules.evaluator import Evaluator
from molecules.objective import Objective
from molecules.oracles.descriptor import Descriptor
from molecules.search.base import Search
from molecules.search.latent import Latent
from molecules.search.proposals import Proposals
from molecules.search.reprogrammed_generator import ReprogrammedGenerator
from molecules.spaces.annalog import Annalog
from molecules.spaces.base import Space

PAGE = Path(__file__).parents[1] / "docs" / "results" / "qed_latent.md"


def searches(space: Space) -> dict[str, Search]:
    return {
        "latent, Adam": Latent(space),
        "latent, sign": Latent(space, method="sign"),
        "latent, GD": Latent(space, method="gd", rate=3.0),
        "proposals": Proposals(space),
        "reprogrammed_generator": ReprogrammedGenerator(space),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="SMILES, one a line")
    parser.add_argument("--search", action="append", help="run only this one (may be repeated)")
    parser.add_argument("--molecules", type=int, default=20, help="the first so many")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cells", type=Path, default=Path("outputs/benchmarks/qed_latent.jsonl"))
    parser.add_argument("--page", type=Path, default=PAGE)
    return parser.parse_args()


def one(name: str, search: Search, space: Space, row: int, smiles: str, options: argparse.Namespace) -> dict[str, Any]:
    """One start molecule. Similarity is to the molecule as given; what the space cannot read is neutralised first."""
    begin = smiles
    if space.unreadable(smiles) is not None:
        cleaned = chemistry.clean(smiles)
        begin = cleaned.smiles if cleaned else smiles
    cell = {"search": name, "row": row, "asked": options.calls, "seed": options.seed}
    if space.unreadable(begin) is not None:
        return cell | {"success": False, "calls": 0, "best": "", "score": None, "valid": None, "cpu_seconds": 0.0}
    objective = Objective.of(Descriptor("qed"), ConstraintConfig(similarity=0.4).constraints([smiles]))
    evaluator = Evaluator(objective, options.calls, target=0.9)
    began = time.process_time()
    search.run(evaluator, [begin], np.random.default_rng([options.seed, row]))
    best = evaluator.best(1)[0]
    allowed = sum(s.feasible for s in evaluator.calls) / len(evaluator.calls)
    return cell | {
        "success": bool(best.feasible and best.score >= 0.9),
        "calls": len(evaluator.calls),
        "best": best.smiles,
        "score": best.score,
        "allowed": allowed,
        "cpu_seconds": time.process_time() - began,
    }


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    lines = [line.split()[0] for line in options.start.read_text().splitlines() if line.strip()][: options.molecules]
    smiles = [chemistry.canonical(line) or line for line in lines]
    options.cells.parent.mkdir(parents=True, exist_ok=True)
    done = {(r["search"], r["row"], r["asked"], r["seed"]) for r in read(options.cells)}
    space = Annalog()
    for row, text in enumerate(smiles):  # start by start, so that a run cut short compares the same starts
        for name, search in searches(space).items():
            wanted = not options.search or name in options.search
            if wanted and (name, row, options.calls, options.seed) not in done:
                cell = one(name, search, space, row, text, options)
                with options.cells.open("a") as out:
                    out.write(json.dumps(cell) + "\n")
    text, figures = page(read(options.cells), searches(space))
    write_page(
        options.page, "QED task with a frozen encoder-decoder", "python benchmarks/qed_latent.py --start FILE", text
    )
    print(text)
    print(json.dumps({"benchmark": "qed_latent", "figures": figures, "versions": versions()}))


def read(file: Path) -> list[dict[str, Any]]:
    return read_lines(file)


def settings(search: Search) -> str:
    """All hyper-parameters of a search, as they ran."""
    values = {f.name: getattr(search, f.name) for f in fields(search) if f.init and f.name != "space"}  # type: ignore[arg-type]
    return ", ".join(f"{k} {v}" for k, v in values.items())


def page(rows: list[dict[str, Any]], known: dict[str, Search]) -> tuple[str, dict[str, Any]]:
    """Success, calls and cost of every finished setting."""
    text = [
        "Success: QED of at least 0.9 at a Tanimoto similarity (ECFP4, 2,048 bits) of at least 0.4 to the start. The start "
        "molecule is the first call; similarity is free. Frozen model: ANNalog 1.0.6, 4.05 million parameters. It has no "
        "token for charged `[NH+]` and the like; such a start is neutralised before it is read, and similarity is still "
        "to the molecule as given.",
        "",
        "| method | starts | calls allowed | success | median calls | allowed molecules among those paid for | CPU s a start |",
        "|---|---|---|---|---|---|---|",
    ]
    figures: dict[str, Any] = {}
    for key in sorted({(r["search"], r["asked"], r["seed"]) for r in rows}):
        group = [r for r in rows if (r["search"], r["asked"], r["seed"]) == key]
        calls, hits = [r["calls"] for r in group], [r["success"] for r in group]
        allowed = float(np.mean([r["allowed"] for r in group if r.get("allowed") is not None]))
        seconds = float(np.mean([r["cpu_seconds"] for r in group]))
        figures["/".join(map(str, key))] = {
            "success": float(np.mean(hits)),
            "starts": len(group),
            "median_calls": float(np.median(calls)),
            "cpu_seconds": seconds,
        }
        text.append(
            f"| `{key[0]}`, seed {key[2]} | {len(group)} | {key[1]} | {sum(hits)} of {len(group)} | "
            f"{np.median(calls):.0f} | {allowed:.0%} | {seconds:.1f} |"
        )
    if any(figure["starts"] < 20 for figure in figures.values()):
        text += ["", "**Not complete**: 20 starts a method were planned, and a row of few starts says little. The command "
                 "goes on where it stopped."]  # fmt: skip
    text += [
        "",
        "Published for QMO on all 800 with its own encoder-decoder: 92.8% with up to 50,000 calls a molecule.",
        "",
    ]
    text += ["Hyper-parameters:", ""]
    text += [
        f"- `{name}`: {settings(search)}" for name, search in known.items() if any(r["search"] == name for r in rows)
    ]
    return "\n".join(text), figures


if __name__ == "__main__":
    main()
