"""A molecule says the same to a language model however it is written."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from molecules.chemistry import canonical
from molecules.inputs.smiles import Smiles, randomized_smiles
from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.errors import ConfigError, DataError
from reprogram.interfaces import Tap, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.registry import find, names
from reprogram.sources.text import TextSource
from reprogram.targets.base import StringExamples
from reprogram.training.loop import fit

MOLECULES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "C[C@@H](N)C(=O)O",
    "CC[NH3+].[Cl-]",
    "c1ccsc1",
    "CCO",
]
TARGET = TargetInfo("t", "molecule", "classification", ("a", "b"))


@pytest.fixture(scope="module")
def encoder(text_models):
    return TextSource(text_models("smiles"), tokenizer="smiles")


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(MOLECULES), st.integers(2, 5))
def test_spellings_are_the_same_molecule_and_the_canonical_one_is_first(smiles, count):
    written = randomized_smiles(smiles, count)
    assert written[0] == canonical(smiles) and {canonical(s) for s in written} == {written[0]}
    mol = Chem.MolFromSmiles(smiles)
    other = Chem.MolToSmiles(mol, doRandom=True)
    assert randomized_smiles(other, count) == written


def test_views_and_features(encoder):
    method = Smiles("own+smiles", ("ecfp4", "descriptors"), views=3)
    method.build(encoder.spec, TARGET)
    views = method(MOLECULES)
    assert len(views) == 6 and views[0][5] == "CCO" and views[3][5] == "C C O"
    beside = method.side_features(MOLECULES)
    assert beside[Tap("ecfp4", "side")].shape == (6, 2048) and len(beside) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "between 1 and 64"),
        ({"features": ("ecfp",)}, "did you mean 'ecfp4'"),
        ({"tokens": "smile"}, "did you mean 'smiles'"),
    ],
)
def test_bad_options_are_named(options, message, encoder):
    with pytest.raises(ConfigError, match=message):
        Smiles(**options).build(encoder.spec, TARGET)


def test_what_is_no_molecule_is_named(encoder):
    method = Smiles()
    method.build(encoder.spec, TARGET)
    with pytest.raises(DataError, match="'C1CC' is not a SMILES"):
        method(["C1CC"])


def test_methods_of_the_domain_package_are_found_by_name():
    assert "smiles" in names("reprogram.inputs") and find("reprogram.inputs", "smiles", Smiles) is Smiles


def test_hybrid_program_is_kept_and_scores_any_spelling(encoder, tmp_path):
    model = ReprogrammedModel(
        encoder, Smiles(features=("ecfp4",), views=2), RidgeTaps(average=2), TARGET
    )  # fmt: skip
    fit(model, StringExamples(MOLECULES, torch.tensor([0, 1, 0, 1, 0, 1]).numpy()))
    save_pretrained(model, tmp_path / "program")
    again = from_pretrained(tmp_path / "program")
    with torch.no_grad():
        assert torch.equal(again(["OC(C)=O", "CCO"]), model(["CC(O)=O", "OCC"]))
        scored = again.predict_proba(["OC(C)=O", "CCO"])  # new molecules from Python, as they come
        assert scored.shape == (2, 2) and again.predict(["CCO"]).shape == (1,)
        plain = ReprogrammedModel(encoder, Smiles(), RidgeTaps(), TARGET)
        fit(plain, StringExamples(MOLECULES, torch.tensor([0, 1, 0, 1, 0, 1]).numpy()))
        assert model.output.weight.shape[0] == plain.output.weight.shape[0] + 2048  # it reads the fingerprint beside


def test_strings_are_read_many_at_once(encoder, monkeypatch):
    """Trap: a text source that is handed 32 strings at a time has nothing to sort by length."""
    asked, real = [], encoder.answer
    monkeypatch.setattr(encoder, "answer", lambda x, taps=(): asked.append(len(x)) or real(x, taps))
    model = ReprogrammedModel(encoder, Smiles(), RidgeTaps(), TARGET)
    model.collect(StringExamples(["CCO"] * 300, torch.zeros(300).numpy()))
    assert asked == [300]
