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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import versions

from molecules.routes.route import replay

ROOT = Path(__file__).parents[1]
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


def command(folder: Path, budget: int, resume: bool) -> list[str]:
    words = ["task=design", "search=routes", "oracle=function", "oracle.function=noting:score"]
    words += ["start=smiles", "start.smiles=CCO", f"blocks.path={REAGENTS}", "search.initial=30"]
    words += [f"budget={budget}", f"run_dir={folder}", "parallel.backend=serial"]
    return [sys.executable, str(ROOT / "train.py"), *words, *(["resume=true"] if resume else [])]


def asked(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def life(words: list[str], home: Path, log: Path, most: int | None) -> bool:
    """Run until ``most`` molecules more were asked about, then kill; True where it came to its end."""
    paths = os.pathsep.join([str(ROOT), str(home)])
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": paths, "ASKED": str(log)}, stderr=subprocess.DEVNULL)
    before = len(asked(log))
    while process.poll() is None:
        if most is not None and len(asked(log)) >= before + most:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
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
        life(command(home / "whole", options.budget, False), home, home / "whole.txt", None)
        step = options.budget // (options.kills + 1)
        kills = twice = 0
        ended = False
        while not ended:
            resume = (home / "killed" / "recipe.json").exists()
            kept, before = journal(home / "killed"), len(asked(home / "killed.txt"))
            words = command(home / "killed", options.budget, resume)
            ended = life(words, home, home / "killed.txt", step if kills < options.kills else None)
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
