"""One call from Python: the same molecules as the command line finds, from whatever a user has in hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import molecules
from molecules.constraints import Constraints, Similar, Window
from molecules.oracles.descriptor import Descriptor
from molecules.run_search import explore
from molecules.search.genetic import Genetic
from reprogram.configuration import config_folder
from reprogram.errors import ConfigError, DataError

START = ["CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CC(=O)Nc1ccc(O)cc1"]


def told(found):
    return [(m.smiles, m.score) for m in found.calls]


def test_the_call_finds_what_the_command_line_finds(tmp_path):
    typed = ["task=design", "oracle=qed", "search=genetic", "budget=40", "seed=3", "constraints.similarity=0.3"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", overrides=[*typed, "parallel.backend=serial", f"run_dir={tmp_path}"])
    typed_run = explore(OmegaConf.to_container(config, resolve=True), START, tmp_path / "calls.jsonl")
    called = molecules.design("qed", START, 40, constraints={"similarity": 0.3}, search="genetic", seed=3)
    assert told(called) == told(typed_run) and len(called.calls) == 40
    assert called.best(1)[0].feasible and called.best(40)[0].score == max(m.score for m in called.calls if m.feasible)


def test_objective_start_and_constraints_in_every_form(tmp_path):
    file = tmp_path / "mine.smi"
    file.write_text("\n".join([*START, "not a molecule"]) + "\n")
    expected = told(molecules.design("qed", START, 20, search="genetic"))
    oracle = Descriptor("qed")
    for objective in (oracle, molecules.Objective.of(oracle)):
        assert told(molecules.design(objective, START, 20, search=Genetic())) == expected
    assert told(molecules.design(lambda smiles: oracle.score([smiles])[0], file, 20, search="genetic")) == expected
    found = molecules.design("qed", file, 20, search="genetic", constraints=[Similar(START, 0.4)])
    assert found.calls[0].constraints and "cannot be parsed" in found.notes[0]


def test_a_journal_is_never_paid_twice(tmp_path: Path):
    asked: list[str] = []

    def length(smiles: str) -> float:
        asked.append(smiles)
        return float(len(smiles))

    journal = tmp_path / "calls.jsonl"
    first = molecules.design(length, START, 15, search="genetic", journal=journal)
    assert len(asked) == 15 == len([json.loads(line) for line in journal.read_text().splitlines()])
    again = molecules.design(length, START, 20, search="genetic", journal=journal)
    assert len(asked) == 20 and told(again)[:15] == told(first)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("qedd", START), "There is no oracle=qedd"),
        ((3.0, START), "objective is 3.0"),
        (("qed", Path("nowhere.smi")), "nowhere.smi is not a file"),
        (("qed", START, -1), "budget is -1"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        molecules.design(*arguments)
    with pytest.raises(DataError, match="no start molecule"):
        molecules.design("qed", ["?"], 5)


def test_what_is_no_constraint_is_refused_instead_of_left_out():
    for wrong in (["plausible"], [3], None, 3):
        with pytest.raises(ConfigError, match=r"constraints holds .*give options such as"):
            molecules.design(Descriptor("qed"), START, 5, constraints=wrong, search=Genetic())


def test_windows_of_descriptors_can_be_given_from_python():
    found = molecules.design(Descriptor("qed"), START, 2, search=Genetic(), constraints={"windows": {"tpsa": [45, 50]}})
    assert [s.constraints["tpsa"] == 0 for s in found.calls[:2]] == [False, True]
    with pytest.raises(ConfigError, match="did you mean 'tpsa'"):
        molecules.design("qed", START, 5, constraints={"windows": {"tpsaa": [45, 50]}})


def test_start_molecules_as_a_notebook_has_them(tmp_path):
    import numpy as np
    import pandas as pd
    from rdkit import Chem

    plain = {"constraints": Constraints(), "search": Genetic()}
    expected = told(molecules.design(Descriptor("qed"), START, 2, **plain))
    mols = [Chem.MolFromSmiles(text) for text in START]
    column = pd.Series([START[0], float("nan"), START[1], None])
    for start in (mols, np.array(START), iter(START), column):
        found = molecules.design(Descriptor("qed"), start, 2, **plain)
        assert told(found) == expected
    assert "2 empty lines: entry 2, entry 4" in found.notes[0]
    for start, sentence in ((pd.DataFrame({"s": START}), "start is a table"), ("nowhere.smi", "nowhere.smi is not a file")):
        with pytest.raises(ConfigError, match=sentence):
            molecules.design("qed", start)


@pytest.mark.parametrize("wrong", [{"budget": "5"}, {"seed": -1}, {"seed": 0.5}, {"stop_at": "high"}, {"search": 3}])
def test_an_option_of_the_wrong_kind_is_one_sentence(wrong):
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))} is "):
        molecules.design(Descriptor("qed"), START, **{"constraints": Constraints()} | wrong)


def test_a_journal_of_another_objective_is_refused_and_other_constraints_are_asked(tmp_path):
    options = {"journal": tmp_path / "calls.jsonl", "search": Genetic(), "budget": 2}
    first = molecules.design(Descriptor("mw"), START, constraints=Constraints([Window("mw", 0, 180)]), **options)
    assert [s.feasible for s in first.calls] == [False, True]
    again = molecules.design(Descriptor("mw"), START, constraints=Constraints([Window("mw", 180)]), **options)
    assert again.cost["calls_from_journal"] == 2 and [s.feasible for s in again.calls] == [True, False]
    for other in (Descriptor("tpsa"), Descriptor("mw", direction="min")):
        with pytest.raises(DataError, match=r"calls.jsonl holds answers of another objective .*give another journal"):
            molecules.design(other, START, constraints=Constraints(), **options)


def test_the_journal_of_another_run_gives_its_answers_and_takes_no_budget(tmp_path):
    options = {"journal": tmp_path / "calls.jsonl", "search": Genetic(), "constraints": Constraints(), "budget": 12}
    molecules.design(Descriptor("qed"), START, **options)
    found = molecules.design(Descriptor("qed"), START, seed=1, **options)
    lines = (tmp_path / "calls.jsonl").read_text().splitlines()
    assert len(found.calls) == 12 and found.cost["calls_from_journal"] == 24 - len(lines) >= 2
