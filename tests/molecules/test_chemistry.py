"""Structures at the edge of what RDKit can stand."""

import pytest
from rdkit import Chem

import molecules
from molecules import chemistry
from molecules.chemistry import canonical, from_block
from reprogram.errors import ConfigError


def test_a_molecule_beyond_all_measure_is_not_read(monkeypatch):
    """RDKit writes a chain by recursion: 20,000 atoms ended the process, row, run and service with it."""
    assert canonical("C" * 3_000) is not None
    assert canonical("C" * 5_001) is None
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCCC"))
    assert from_block(block) == "CCCC"
    monkeypatch.setattr(chemistry, "LONGEST", 3)
    assert from_block(block) is None


def test_a_start_that_is_a_file_of_another_kind_is_no_smiles(tmp_path):
    (tmp_path / "start.smi.gz").write_bytes(b"x")
    for start in (str(tmp_path / "start.smi.gz"), tmp_path / "start.smi.gz"):
        with pytest.raises(ConfigError, match="is not a file of start molecules; allowed"):
            molecules.design("qed", start, budget=0)
