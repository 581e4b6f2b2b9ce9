"""A reprogrammed predictor as an oracle, and the loop that designs with it."""

import json
import math

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from molecules.oracles.predictor import KNOWN, Predictor
from molecules.tasks import few_label
from reprogram.artifact import save_pretrained
from reprogram.cli import config_folder
from reprogram.errors import ConfigError, DataError
from reprogram.inputs.text import Text
from reprogram.interfaces import SourceModel, SourceOutput, SourceSpec, TargetInfo
from reprogram.model import ReprogrammedModel
from reprogram.outputs.identity import IdentityMapping

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


class Counts(SourceModel):
    """Reads strings, answers with how often each of a few letters occurs; counts its passes."""

    name = "counts"

    def __init__(self, labels=("C", "O"), scale=1.0):
        super().__init__()
        self.letters, self.passes, self.scale = labels, 0, scale
        self.spec = SourceSpec("text", 500, tuple(labels), feature_size=len("CONFSc1("))
        self.freeze()

    def answer(self, source_input, taps=()):
        self.passes += 1
        logits = torch.tensor([[float(s.count(x)) for x in self.letters] for s in source_input]) * self.scale
        features = torch.tensor([[float(s.count(x)) for x in "CONFSc1("] for s in source_input])
        return SourceOutput(logits, features)


def model(source, problem="regression", classes=("C", "O")):
    return ReprogrammedModel(source, Text(), IdentityMapping(), TargetInfo("toy", "molecule", problem, classes))


def test_a_predictor_reads_canonical_smiles_whatever_it_is_given():
    oracle = Predictor(models=[model(Counts())], column="C")
    one, other = oracle.score(["OC(=O)c1ccccc1OC(C)=O", ASPIRIN])
    assert one == other == ASPIRIN.count("C")
    assert math.isnan(oracle.score(["C1CC("])[0]) and oracle.answers(["x"])[0].reason


def test_members_with_one_source_share_its_pass_and_their_standard_deviation_is_reported():
    source = Counts()
    low, high = model(source), model(source)
    high.output.forward = lambda outputs: outputs[0].logits + 2.0
    [answer] = Predictor(models=[low, high], column="O").answers([ASPIRIN])
    assert source.passes == 1
    assert answer.value == ASPIRIN.count("O") + 1.0 and answer.std == 1.0


def test_members_with_other_sources_are_asked_apart():
    [answer] = Predictor(models=[model(Counts()), model(Counts(scale=3.0))], column="O").answers(["OCO"])
    assert answer.value == 4.0 and answer.std == 2.0


def test_the_applicability_threshold_names_what_is_outside(tmp_path):
    oracle = Predictor(models=[model(Counts())], column="C", applicability_threshold=0.5, known=[ASPIRIN])
    inside, outside = oracle.answers([ASPIRIN, "FC(F)(F)C1CCNCC1"])
    assert not inside.reason and math.isnan(outside.value) and "outside the applicability domain" in outside.reason
    with pytest.raises(DataError, match="one SMILES a line"):
        Predictor(models=[model(Counts())], applicability_threshold=0.5)


def test_a_class_is_its_probability_and_a_wrong_name_is_said():
    oracle = Predictor(models=[model(Counts(), "classification")], column="O")
    assert oracle.range == (0.0, 1.0)
    assert oracle.score(["CCO"])[0] == pytest.approx(1 / (1 + math.e))
    with pytest.raises(ConfigError, match=r"no class 'c' \(oracle.column\)"):
        Predictor(models=[model(Counts())], column="c")
    with pytest.raises(ConfigError, match=r"needs oracle\.program"):
        Predictor()


def test_kept_programs_make_an_ensemble(tmp_path):
    source = Counts()
    folders = [str(save_pretrained(model(source), tmp_path / name)) for name in "ab"]
    (tmp_path / "a" / KNOWN).write_text(ASPIRIN + "\n")
    oracle = Predictor(folders, models=[model(source)], column="C", applicability_threshold=0.3)
    assert len(oracle.models) == 3 and oracle.score([ASPIRIN])[0] == ASPIRIN.count("C")


def config(folder, *overrides):
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        options = ["experiment=design_few_label", f"run_dir={folder}", "search=stoned", *overrides]
        return compose("config", options)


def loop(monkeypatch, folder, *overrides):
    made = few_label.instantiate
    monkeypatch.setattr(
        few_label, "instantiate", lambda c, **k: Counts() if "minilm" in str(c.get("_target_")) else made(c, **k)
    )
    monkeypatch.setattr(few_label, "HELD_OUT", 30)
    folder.mkdir(exist_ok=True)
    few_label.run(config(folder, "labels=24", "members=3", "budget=60", *overrides))
    return json.loads((folder / "result.json").read_text())


def test_the_loop_reports_predicted_against_real(monkeypatch, tmp_path):
    result = loop(monkeypatch, tmp_path)
    told = result["loop"]
    assert result["calls"] == 60 and told["held_out"]["molecules"] == 30
    assert told["gap"] == pytest.approx(told["predicted_mean"] - np.mean(told["real"]))
    assert told["lower_bound_mean"] <= told["predicted_mean"]
    assert all(entry["constraints"]["similarity"] == 0 for entry in result["best"])
    page = (tmp_path / "report.html").read_text()
    assert page.index("Predicted against real") < page.index("Score against calls")
    assert (tmp_path / "program" / "member_3" / "program.json").exists()
    known = (tmp_path / "program" / "member_1" / KNOWN).read_text().split()
    assert len(known) == 24


def test_the_loop_on_a_table_says_that_real_values_are_unknown(monkeypatch, tmp_path):
    molecules = ["C" * n + tail for n in range(1, 21) for tail in ("O", "N")]
    lines = "".join(f"{s},{len(s) / 2}\n" for s in molecules)
    (tmp_path / "mine.csv").write_text("structure,solubility\n" + lines)
    table = [f"table.path={tmp_path / 'mine.csv'}", "table.smiles=structure", "table.value=solubility"]
    result = loop(monkeypatch, tmp_path / "run", "property=null", *table)
    assert "real" not in result["loop"] and "real values are not known" in result["verdict"]
    with pytest.raises(ConfigError, match=r"table\.path and table\.value"):
        loop(monkeypatch, tmp_path / "none", "property=null")
