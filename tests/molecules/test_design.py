"""A design run as its user sees it: files, resume after a kill, mistakes in one sentence."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rdkit import Chem

from molecules.objective import Scored
from molecules.oracles.descriptor import Descriptor
from molecules.run_search import explore, notes_after
from molecules.search.genetic import Genetic
from molecules.tasks import per_start
from molecules.tasks.design import run as design
from reprogram.cli import config_folder
from reprogram.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
QED = ["+oracle._target_=molecules.oracles.descriptor.Descriptor", "+oracle.descriptor=qed"]
DRUGS = ["CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C"]
GIVEN = ["start=smiles", "start.smiles=[" + ",".join(f"'{s}'" for s in DRUGS) + "]"]
LOGGED = '''
import time
from molecules.oracles.base import Answer, Oracle


class Logged(Oracle):
    """Heavy atoms; writes down every molecule it is asked for."""

    name = "logged"

    def __init__(self, log, seconds=0.0, fail=False):
        self.log, self.seconds, self.fail = log, seconds, fail

    def answers(self, smiles):
        for text in smiles:
            with open(self.log, "a") as file:
                file.write(text + "\\n")
            time.sleep(self.seconds)
        return [Answer(float("nan"), "no licence") if self.fail else Answer(len(s) / 3) for s in smiles]
'''


def config(folder, *overrides):
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("config", ["task=design", f"run_dir={folder}", "search=stoned", "constraints=none", *overrides])


def run(folder, *overrides):
    folder.mkdir(parents=True, exist_ok=True)
    design(config(folder, *overrides))
    return json.loads((folder / "result.json").read_text())


def rows(folder):
    return list(csv.DictReader((folder / "molecules.csv").open()))


@pytest.fixture
def logged(tmp_path, monkeypatch):
    (tmp_path / "logged.py").write_text(LOGGED)
    monkeypatch.syspath_prepend(str(tmp_path))
    return ["+oracle._target_=logged.Logged", f"+oracle.log={tmp_path / 'asked.txt'}", "parallel.backend=serial"]


def test_the_run_folder_holds_what_was_promised(tmp_path):
    result = run(tmp_path, *QED, *GIVEN, "budget=120", "constraints.plausible=true", "constraints.similarity=0.2")
    assert result["schema"] == 1 and result["task"] == "design" and result["calls"] == 120 == result["budget"]
    assert 0 < result["auc_top100"] <= result["auc_top10"] <= result["auc_top1"] <= 1
    best = result["best"][0]
    assert best["score"] == best["parts"]["qed"] and best["constraints"] == {"similarity": 0.0, "plausible": 0.0}
    table = rows(tmp_path)
    smiles = [row["smiles"] for row in table]
    assert len(set(smiles)) == 120 and smiles[0] == best["smiles"]
    assert all(Chem.CanonSmiles(s) == s for s in smiles)
    feasible = [float(row["score"]) for row in table if row["feasible"] == "1"]
    assert feasible == sorted(feasible, reverse=True) and len(feasible) == result["feasible"]
    from rdkit.Chem.QED import qed

    assert all(float(r["qed (raw)"]) == pytest.approx(qed(Chem.MolFromSmiles(r["smiles"]))) for r in table[:20])
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [c["call"] for c in calls] == list(range(1, 121)) and {c["smiles"] for c in calls} == set(smiles)
    in_sdf = list(Chem.SDMolSupplier(str(tmp_path / "molecules.sdf")))
    assert Chem.MolToSmiles(in_sdf[0]) == best["smiles"] and float(in_sdf[0].GetProp("score")) == best["score"]
    assert (tmp_path / "molecules.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert best["smiles"].replace("=", "&#61;") in page or best["smiles"] in page
    assert "Score against calls" in page and "Properties" in page
    assert 'src="http' not in page and 'href="http' not in page and "<script" not in page


def test_killed_at_any_moment_it_ends_as_if_it_never_was_and_pays_nothing_twice(tmp_path, logged):
    options = [*logged, *GIVEN, "budget=200", "+oracle.seconds=0.004"]
    whole = run(tmp_path / "whole", *options)
    asked = tmp_path / "asked.txt"
    asked.write_text("")
    folder = tmp_path / "killed"
    words = ["task=design", "search=stoned", "constraints=none", f"run_dir={folder}", *options]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(asked.read_text().splitlines()) < 90:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = [json.loads(line)["smiles"] for line in (folder / "calls.jsonl").read_text().splitlines() if line[-1] == "}"]
    assert 0 < len(kept) < 200 and not (folder / "result.json").exists()
    with pytest.raises(ConfigError, match="continue it with resume=true"):
        run(folder, *options)
    asked.write_text("")
    resumed = run(folder, *options, "resume=true")
    later = asked.read_text().split()
    assert not set(later) & set(kept), "a molecule in the journal was scored again"
    assert len(later) == 200 - len(kept)
    assert (folder / "molecules.csv").read_bytes() == (tmp_path / "whole" / "molecules.csv").read_bytes()
    assert {k: v for k, v in resumed.items() if k != "cost"} == {k: v for k, v in whole.items() if k != "cost"}
    assert resumed["cost"]["calls_from_journal"] == len(kept)
    with pytest.raises(ConfigError, match="continues the same run, but seed was 0 and is 1"):
        run(folder, *options, "resume=true", "seed=1")
    more = run(folder, *options, "resume=true", "budget=230")
    assert more["calls"] == 230 and len(asked.read_text().split()) == 230 - len(kept)


def test_an_oracle_that_always_fails_stops_after_fifty_with_its_own_words(tmp_path, logged):
    with pytest.raises(DataError, match=r"first 50 molecules.*no licence"):
        run(tmp_path / "run", *logged, *GIVEN, "budget=300", "+oracle.fail=true")
    assert len((tmp_path / "asked.txt").read_text().split()) == 50


def test_a_budget_of_zero_reads_the_input_scores_nothing_and_leaves_the_folder_free(tmp_path, logged, capsys):
    options = [*logged, *GIVEN, "constraints.mw=[170, 900]"]
    folder = tmp_path / "run"
    folder.mkdir()
    assert design(config(folder, *options, "budget=0")) is None
    told = " ".join(capsys.readouterr().err.split())
    assert "of 3 start molecules do" in told and "3 start molecules and the constraints were read, nothing was scored" in told
    assert not list(folder.iterdir()) and not (tmp_path / "asked.txt").exists()
    assert run(folder, *options, "budget=5")["calls"] == 5
    with pytest.raises(ConfigError, match="budget"):
        run(tmp_path / "negative", *logged, *GIVEN, "budget=-1")


def test_an_oracle_beside_an_objective_is_noted(tmp_path, capsys):
    design(config(tmp_path / "run", "objective=drug_like", "oracle=qed", "start=example", "budget=0"))
    assert "oracle= is not used" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("budget, which", [(1, "the only molecule"), (20, "each of the first 20 molecules")])
def test_an_oracle_that_always_fails_ends_a_small_budget_in_its_own_words_too(tmp_path, logged, budget, which):
    with pytest.raises(DataError, match=f"{which}.*no licence"):
        run(tmp_path / "run", *logged, *GIVEN, f"budget={budget}", "+oracle.fail=true")
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_start_that_satisfies_everything_ends_the_run(tmp_path):
    result = run(tmp_path, *QED, *GIVEN, "budget=500", "stop_at=0.5")
    assert result["calls"] == 3
    assert any("already satisfies everything" in note for note in result["notes"])


def test_contradictions_are_said_before_the_first_call(tmp_path, logged):
    with pytest.raises(ConfigError, match="contradict each other"):
        run(tmp_path / "run", *logged, *GIVEN, "constraints.keep=[c1ccccc1]", "constraints.forbid=[c1ccccc1]")
    assert not (tmp_path / "asked.txt").exists()


def test_a_budget_below_the_starts_is_said(tmp_path):
    result = run(tmp_path, *QED, *GIVEN, "budget=2")
    assert result["calls"] == 2 and any("the first 2 of 3 start molecules" in n for n in result["notes"])


def test_an_oracle_is_needed(tmp_path):
    with pytest.raises(ConfigError, match="'oracle' must be given"):
        run(tmp_path, *GIVEN)


def test_many_starts_run_side_by_side_and_resume(tmp_path):
    options = [*QED, *GIVEN, "budget=60", "per_start=true", "stop_at=0.6", "constraints.similarity=0.3"]
    result = run(tmp_path, *options)
    assert result["starts"] == {"molecules": 3, "with_feasible_molecule": 3, "failed": 0}
    assert result["reached"]["starts"] >= 1 and result["calls"] <= 180
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert len(lines) == result["calls"] and {line["start"] for line in lines} == {1, 2, 3}
    first = (tmp_path / "molecules.csv").read_bytes()
    (tmp_path / "starts" / "00002.json").unlink()  # as if killed inside the second start
    journal = tmp_path / "starts" / "00002.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:1]))
    again = run(tmp_path, *options, "resume=true")
    assert (tmp_path / "molecules.csv").read_bytes() == first and again["reached"] == result["reached"]


def test_a_reprogrammed_generator_leaves_its_program_behind(tmp_path):
    options = [*QED, "start=smiles", "start.smiles=['CC(=O)Nc1ccc(O)cc1']", "search.samples=4", "budget=6"]
    run(tmp_path, *options, "search=reprogrammed_generator")
    program = json.loads((tmp_path / "program" / "program.json").read_text())
    assert program["input"]["name"] == "decoder_prompt" and program["source"]["name"] == "annalog"


def test_a_locked_scaffold_grows_only_at_its_attachment_point(tmp_path):
    lock = "constraints.scaffold='*c1ccc(O)cc1'"
    result = run(tmp_path, *QED, "start=smiles", "start.smiles=['CC(=O)Nc1ccc(O)cc1']", "budget=40", lock)
    assert result["feasible"] >= 5
    core = Chem.MolFromSmarts("c1[cH][cH]c([OH])[cH][cH]1")
    assert all(Chem.MolFromSmiles(b["smiles"]).HasSubstructMatch(core) for b in result["best"])


@pytest.mark.parametrize(
    "mistake, sentence",
    [
        (["oracle=zaleplon_mp"], "did you mean 'zaleplon_mpo'"),
        (["oracle=descriptor", "oracle.descriptor=tpsaa"], "did you mean 'tpsa'"),
        (["oracle=qed", "search=genetics"], "did you mean 'genetic'"),
        (["oracle=qed", "constraints.keep=['c1ccc(']"], "'c1ccc('"),
        (["oracle=qed", "start=file", "start.path=nowhere.smi"], "nowhere.smi does not exist"),
        (["oracle=qed", "start=file", "start.path=/dev/null"], "/dev/null is not a file"),
        (["oracle=qed", "parallel.backend=dask"], "parallel.address"),
    ],
)
def test_a_mistake_ends_in_one_sentence(tmp_path, monkeypatch, capsys, mistake, sentence):
    from reprogram.cli import main

    monkeypatch.setattr(sys, "argv", ["train.py", "task=design", f"run_dir={tmp_path / 'run'}", "budget=5", *mistake])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2 and sentence in told and told.startswith("error: ") and "Traceback" not in told


def test_several_properties_give_a_front_and_its_volume(tmp_path):
    result = run(tmp_path, "objective=drug_like", *GIVEN, "budget=60")
    front = result["pareto"]
    assert front["terms"] == ["qed", "sa", "logp"] and 0 < front["hypervolume"] <= 1
    parts = [[entry["parts"][name] for name in front["terms"]] for entry in front["front"]]
    for a in parts:
        assert not any(all(y >= x for x, y in zip(a, b)) and b != a for b in parts)
    assert "beaten by no other" in (tmp_path / "report.html").read_text()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 60), st.integers(0, 40))
def test_any_prefix_of_the_journal_leads_to_the_same_end(tmp_path_factory, lines, torn):
    """A kill can leave any number of whole lines and a piece of the next."""
    folder = tmp_path_factory.mktemp("prefix")
    recipe = OmegaConf.to_container(config(folder, *QED, *GIVEN, "budget=60"), resolve=True)
    whole = explore(recipe, DRUGS, folder / "whole.jsonl")
    text = (folder / "whole.jsonl").read_text().splitlines(keepends=True)
    rest = text[lines][:torn].rstrip("\n") if lines < len(text) else ""
    (folder / "cut.jsonl").write_text("".join(text[:lines]) + rest)
    again = explore(recipe, DRUGS, folder / "cut.jsonl")
    assert again.calls == whole.calls and again.cost["calls_from_journal"] == lines
    assert (folder / "cut.jsonl").read_text() == "".join(text)


def test_calls_of_a_start_that_failed_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(Descriptor, "value", lambda self, mol: 1 / 0)
    config = {
        "oracle": {"_target_": "molecules.oracles.descriptor.Descriptor", "descriptor": "qed"}, "search": Genetic(),
        "constraints": {"_target_": "molecules.constraints.config.ConstraintConfig", "route": False}, "seed": 0, "budget": 1,
        "stop_at": None, "diversity": {"bucket": None}, "parallel": {"_target_": "molecules.workers.Workers"},
    }  # fmt: skip
    row = per_start.run_one(config, "CCO", tmp_path, 1)
    assert "ZeroDivisionError" in row["error"] and row["calls"] == 1


def test_a_budget_below_the_start_list_is_noted_only_where_it_was_spent_on_that():
    def told(calls, starts):
        evaluator = SimpleNamespace(calls=[Scored(s, 1.0) for s in calls], budget=2, target=None, left=0)
        return notes_after(evaluator, starts)

    assert "the first 2 of 3 start molecules and nothing else" in told(["C", "CC"], ["C", "CC", "CCC"])[0]
    assert told(["C", "CO"], ["C", "CC", "CCC"]) == []  # search=surrogate keeps some start molecules waiting
