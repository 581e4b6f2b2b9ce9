"""Whose atoms an answer hangs on, and strings as written, in a report."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from molecules.attribution import atom_attributions, pictures
from molecules.inputs.smiles import Smiles
from molecules.targets import molecules_csv
from reprogram.errors import DataError
from reprogram.evaluation.compare import compare
from reprogram.evaluation.features import shared_answers
from reprogram.evaluation.verdict import CHECKS
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.sources.text import TextSource
from reprogram.training.loop import Training, fit


class CountsNitrogen(nn.Module):
    def forward(self, strings):
        return torch.tensor([[float(s.upper().count("N"))] for s in strings])


def test_the_atom_that_counts_is_found():
    values = atom_attributions(CountsNitrogen(), "CCNC")
    assert values.tolist() == [0.0, 0.0, 1.0, 0.0]
    with pytest.raises(DataError, match="C1CC"):
        atom_attributions(CountsNitrogen(), "C1CC")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Class 1 is written with an explicit bond, class 0 backwards: the same kind of molecules in two handwritings."""
    lines = [f"{'C-' * i}CO,1" if i % 2 else f"O{'C' * i}C,0" for i in range(2, 42)]
    path = tmp_path_factory.mktemp("t") / "m.csv"
    path.write_text("\n".join(["smiles,y", *lines]) + "\n")
    return molecules_csv(str(path), "smiles", "y", test_size=0.4)


def test_handwriting_that_tells_the_class_is_flagged(task, text_models):
    """Trap: a language model that reads how a string is written looks better than it is."""
    model = ReprogrammedModel(TextSource(text_models("smiles"), tokenizer="smiles"), Smiles(), RidgeTaps(), task.info)
    fit(model, task.train)
    with shared_answers(model):
        found = compare(model, task, Training(), ["as_written"], seed=0)
    written = found.baselines["as_written"]["roc_auc"]["value"]
    assert written > found.metrics["roc_auc"]["value"] + 0.02
    assert any(note.startswith("Writing leak") for note in task.notes)
    assert "as_written" in CHECKS and "as written" not in found.verdict


def test_pictures_of_molecules(task):
    ((title, image),) = pictures(CountsNitrogen(), task).items()
    assert image.startswith(b"\x89PNG") and "Atoms" in title
