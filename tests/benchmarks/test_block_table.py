"""The stock of the package can be made again: the script from end to end, on a catalogue of a few molecules."""

import bz2
import importlib.util
import json
import pickle
import sys
from pathlib import Path

from rdkit import Chem

from molecules.routes import stock

FOLDER = Path(__file__).parents[2] / "benchmarks"
CATALOGUE = ["Nc1ccc(Br)cc1", "CC(=O)O", "OB(O)c1ccccc1", "CN=[N+]=[N-]", "C1=CC1", "[Na+].CC(=O)[O-]"]


def test_a_small_table_from_end_to_end(tmp_path, monkeypatch, capsys):
    (tmp_path / "synspace" / "rxn_data").mkdir(parents=True)
    binaries = [Chem.MolFromSmiles(s).ToBinary() for s in CATALOGUE]
    (tmp_path / "synspace" / "rxn_data" / "blocks.pk.bz2").write_bytes(bz2.compress(pickle.dumps(binaries)))
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("block_table", FOLDER / "block_table.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    table = tmp_path / "blocks.tsv.gz"
    words = ["--package", str(tmp_path), "--zinc", "40", "--least", "2", "--table", str(table)]
    monkeypatch.setattr(sys, "argv", ["block_table.py", *words])
    script.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    monkeypatch.setattr(stock, "FILE", table)
    found = stock.shipped.__wrapped__()  # reads what was written; raises where it was made for other reactions
    assert len(found) == figures["blocks"] and figures["catalogue"] == 3  # an azide, a strained ring and a salt are left out
    assert {"Nc1ccc(Br)cc1", "CC(=O)O"} <= set(found.blocks) and not {"CN=[N+]=[N-]", "C1=CC1"} & set(found.blocks)
    assert found.fitting(stock.reactions()["Suzuki coupling"], 0).count("OB(O)c1ccccc1") == 1
