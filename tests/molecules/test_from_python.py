"""One call from Python: the same molecules as the command line finds, from whatever a user has in hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import molecules
from molecules.constraints import Similar
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
