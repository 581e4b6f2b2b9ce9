"""Decoration, linkers and quick SAR on three public drugs each, with pictures: the page that shows what the recipes give.

python benchmarks/recipes.py
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from common import versions, write_page

from molecules.chemistry import canonical, draw_grid, locked_scaffold
from molecules.rgroups import put_together

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results" / "recipes.md"
SHOWN = 8


class Recipe(NamedTuple):
    """A drug, the kind of recipe, and what is given of the drug."""

    drug: str
    kind: str
    given: str
    about: str


RECIPES = (
    Recipe("erlotinib", "scaffold", "*Nc1ncnc2cc(*)c(*)cc12", "the quinazoline with three attachment points"),
    Recipe("celecoxib", "scaffold", "*c1cc(*)nn1-c1ccc(S(N)(=O)=O)cc1", "the sulfonamide stays"),
    Recipe("procainamide", "scaffold", "*c1ccc(cc1)C(=O)N*", "the benzamide"),
    Recipe("haloperidol", "linker", "*c1ccc(F)cc1|*N1CCC(O)(c2ccc(Cl)cc2)CC1", "between fluorophenyl and piperidinol"),
    Recipe("gefitinib", "linker", "*N1CCOCC1|*Oc1cc2c(Nc3ccc(F)c(Cl)c3)ncnc2cc1OC", "between morpholine and quinazoline"),
    Recipe("imatinib", "linker", "*c1ccc(C)c(Nc2nccc(-c3cccnc3)n2)c1|*c1ccc(CN2CCN(C)CC2)cc1", "where the amide was"),
    Recipe("paracetamol", "position", "CC(=O)Nc1ccc([OH:1])cc1", "the phenol"),
    Recipe("diphenhydramine", "position", "CN(C)CC[O:1]C(c1ccccc1)c1ccccc1", "the ether oxygen"),
    Recipe("nevirapine", "position", "Cc1ccnc2c1NC(=O)c1[cH:1]ccnc1N2C1CC1", "a CH of the pyridine"),
)
WORDS = {
    "scaffold": "start=scaffold start.scaffold=\"'{given}'\" budget={budget}",
    "linker": "start=linker start.linker=\"'{given}'\" budget={budget}",
    "position": "start=position start.molecule=\"'{given}'\"",
}
TITLES = {"scaffold": "Decoration", "linker": "Linkers", "position": "Quick SAR"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("outputs/benchmarks/recipes"))
    parser.add_argument("--page", type=Path, default=PAGE)
    return parser.parse_args()


def run(recipe: Recipe, options: argparse.Namespace) -> list[dict[str, str]]:
    """The rows of the recipe's table, as the command line writes it."""
    folder = options.runs / f"{recipe.kind}_{recipe.drug}"
    task = "score" if recipe.kind == "position" else "design"
    if not (folder / "result.json").exists():
        key = {"scaffold": "scaffold", "linker": "linker", "position": "molecule"}[recipe.kind]
        words = [f"task={task}", "objective=drug_like", f"start={recipe.kind}", f"start.{key}='{recipe.given}'"]
        words += [f"budget={options.budget}"] * (task == "design")
        words += [f"seed={options.seed}", "parallel.backend=serial", f"run_dir={folder}"]
        words.append(f"resume={'true' if (folder / 'calls.jsonl').exists() else 'false'}")
        subprocess.run([sys.executable, str(ROOT / "train.py"), *words], check=True, stdout=subprocess.DEVNULL)
    with (folder / ("scores.csv" if task == "score" else "molecules.csv")).open() as file:
        return list(csv.DictReader(file))


def figures(recipe: Recipe, rows: list[dict[str, str]]) -> dict[str, Any]:
    feasible = [row for row in rows if row["feasible"] == "1"]
    found: dict[str, Any] = {"drug": recipe.drug, "kind": recipe.kind, "rows": len(rows), "feasible": len(feasible)}
    if recipe.kind != "position":
        locked = locked_scaffold(recipe.given)
        names = ["linker"] * 2 if recipe.kind == "linker" else [name for name in rows[0] if name[0] == "R" and name[1:].isdigit()]
        groups = [[row[name] for name in names] for row in feasible]
        again = [put_together(locked, g) == canonical(row["smiles"]) for g, row in zip(groups, feasible)]
        found |= {"put_together_again": sum(again), "different_groups": len({tuple(g) for g in groups})}
    return found


def picture(recipe: Recipe, rows: list[dict[str, str]], folder: Path) -> str:
    """The best molecules, or the first of the list; what was exchanged stands below each."""
    names = [name for name in rows[0] if name == "linker" or (name[0] == "R" and name[1:].isdigit())]
    shown = rows if recipe.kind == "position" else [row for row in rows if row["feasible"] == "1"]
    shown = shown[:SHOWN]
    below = [row["row"] if recipe.kind == "position" else " ".join(row[name] for name in names) for row in shown]
    legends = [f"{float(row['score']):.2f}  {text[:44]}" for row, text in zip(shown, below)]
    name = f"recipes_{recipe.kind}_{recipe.drug}.png"
    (folder / name).write_bytes(draw_grid([row["smiles"] for row in shown], legends, columns=4, side=240))
    return name


def main() -> None:
    options = arguments()
    options.page.parent.mkdir(parents=True, exist_ok=True)
    text = [
        f"`objective=drug_like`, the default constraints and search, seed {options.seed}. The number under a molecule is its "
        "score; then what the run put there.",
        "",
    ]
    found, last = [], ""
    for recipe in RECIPES:
        rows = run(recipe, options)
        figure = figures(recipe, rows)
        found.append(figure)
        if recipe.kind != last:
            text += [f"## {TITLES[recipe.kind]}", ""]
            last = recipe.kind
        task = "score" if recipe.kind == "position" else "design"
        words = WORDS[recipe.kind].format(given=recipe.given, budget=options.budget)
        text += [f"**{recipe.drug}**, {recipe.about}:", "", "```text", f"python train.py task={task} objective=drug_like {words}"]
        if recipe.kind == "position":
            outcome = f"{figure['rows']} molecules, {figure['feasible']} of them satisfy the default constraints."
        else:
            outcome = (
                f"{figure['feasible']} of {figure['rows']} evaluated molecules are feasible, with {figure['different_groups']} "
                f"different sets of groups; {figure['put_together_again']} are exactly scaffold plus columns."
            )
        image = picture(recipe, rows, options.page.parent)
        text += ["```", "", outcome, "", f"![{recipe.drug}]({image})", ""]
        print(recipe.kind, recipe.drug, outcome, flush=True)
    write_page(options.page, "Decoration, linkers and quick SAR on drugs", "python benchmarks/recipes.py", "\n".join(text))
    print(json.dumps({"benchmark": "recipes", "figures": found, "seeds": [options.seed], "versions": versions()}))


if __name__ == "__main__":
    main()
