"""A search over routes that is killed again and again: nothing is lost, no molecule is paid for twice, the end is the same.

    python benchmarks/route_kills.py --kills 15

Each life of the run is ended by SIGKILL once it has paid for a few more molecules; the last one goes to the end. The oracle notes
every molecule that it is asked about. Answers are written about every two seconds; what a kill loses before that is asked again.
Compared with a run that was left alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from common import versions

from molecules.routes.route import replay
from reprogram import cli

REAGENTS = Path(__file__).with_name("common_reagents.smi")
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


def words_of(folder: Path, budget: int, resume: bool) -> list[str]:
    words = ["task=design", "search=routes", "oracle=function", "oracle.function=noting:score"]
    words += ["start=smiles", "start.smiles=CCO", f"blocks.path={REAGENTS}", "search.initial=30"]
    words += [f"budget={budget}", f"run_dir={folder}", "parallel.backend=serial"]
    return [*words, *(["resume=true"] if resume else [])]


def asked(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def life(words: list[str], log: Path, most: int | None) -> bool:
    """Run in a process of its own until ``most`` molecules more were asked about, then kill; True where it came to its end."""
    before = len(asked(log))
    process = os.fork()
    if process == 0:
        os.environ["ASKED"], sys.argv = str(log), ["train.py", *words]
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # until this process ends
        try:
            cli.main()
        finally:
            os._exit(0)
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if most is not None and len(asked(log)) >= before + most:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return False
        time.sleep(0.01)
    return True


def journal(folder: Path) -> set[str]:
    """Molecules whose answers are kept; a line that a kill has cut is none."""
    file = folder / "calls.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return {json.loads(line)["smiles"] for line in lines if line.endswith("}")}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "molecules.csv").open() as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--budget", type=int, default=150)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        (home / "noting.py").write_text(ORACLE)
        sys.path.insert(0, place)
        life(words_of(home / "whole", options.budget, False), home / "whole.txt", None)
        step = options.budget // (options.kills + 1)
        kills = twice = 0
        ended = False
        while not ended:
            resume = (home / "killed" / "recipe.json").exists()
            kept, before = journal(home / "killed"), len(asked(home / "killed.txt"))
            words = words_of(home / "killed", options.budget, resume)
            ended = life(words, home / "killed.txt", step if kills < options.kills else None)
            twice += len(kept & set(asked(home / "killed.txt")[before:]))
            kills += not ended
        whole, killed = rows(home / "whole"), rows(home / "killed")
        figures = {
            "kills": kills,
            "molecules": len(killed),
            "same_as_whole": (home / "whole/molecules.csv").read_bytes() == (home / "killed/molecules.csv").read_bytes(),
            "paid_twice": twice,
            "asked_again_because_not_yet_written": len(asked(home / "killed.txt")) - len(killed),
            "lost": len({r["smiles"] for r in whole} - {r["smiles"] for r in killed}),
            "replayed": sum(replay(row["route"]) == row["smiles"] for row in killed),
        }
    print("\n".join(f"{name}: {value}" for name, value in figures.items()))
    print(json.dumps({"benchmark": "route_kills", "figures": figures, "versions": versions()}))


if __name__ == "__main__":
    main()
