"""What a user types and what comes back: one sentence and an exit code for every mistake, a run folder for every run."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException
from PIL import Image

from reprogram import cli, from_pretrained
from reprogram.configuration import groups

ROOT = Path(__file__).parents[2]


MISTAKES = {
    ("targt=digits",): "There is no option 'targt'; did you mean 'target'?",
    ("target=mnits",): "There is no target=mnits; did you mean 'mnist'?",
    ("target.shotss=3",): "There is no option 'target.shotss'; did you mean 'shots'?",
    ("source.nam=x",): "There is no option 'source.nam'; did you mean 'name'?",
    ("+target.shootz=3",): "There is no option 'target.shootz'; did you mean 'shots'?",
    ("colour=blue",): "There is no option 'colour'; allowed: ",
    ("task=nothing",): "There is no task=nothing; allowed: ",
    ("target.shots",): "'target.shots' cannot be read; write key=value",
    ("target=image_folder",): "target.root must be given, as in target.root=VALUE.",
    ("target=image_folder", "target.root=/nowhere"): "target.root=/nowhere does not exist.",
    ("seed=first",): "seed=first is not possible; allowed: int.",
    ("seed=-1",): "seed=-1 must be 0 or more.",
    ("target.shots=many",): "target.shots=many is not possible; allowed: int or null.",
    ("target=digits", "target.shots=0"): "give target.shots=2 or more",
    ("target=digits", "target.shots=-1"): "target.shots=-1 must be 0 or more.",
    ("robustness=1",): "robustness=1 is not a choice; write the name of one: allowed: full, none, quick",
    ("source=false",): "source=false is not a choice",
    ("training=[1,2]",): "training=[1,2] is not a choice",
    ("task=null",): "task=null is not a choice",
    ("run_dir=",): "run_dir='' must be a value, not an empty one.",
    ("target=digits", "input=views", "input.sizes=[]"): "input.sizes=[] must be a value, not an empty one.",
    ("program=abc",): "program=abc is not possible; allowed: auto.",
    ("training.optimiser.weight_decay=nan",): "training.optimiser.weight_decay=nan is not possible; allowed: number.",
    ("training.checkpoint_seconds=nan",): "training.checkpoint_seconds=nan is not possible",
    ("training.patience=-3",): "training.patience=-3 must be 0 or more.",
    ("training.resolutions=[[0.5,-3]]",): "-3 must be at least 1.",
    ("training.augment=[0]",): "training.augment=[0] is not possible; allowed: Affine or null.",
    ("robustness=full", "robustness.checks.pgd.attack.steps=-7"): "attack.steps=-7 must be at least 1.",
    ("robustness=full", "robustness.checks.pdg.attack.steps=7"): "did you mean 'pgd'?",
    ("robustness=full", "robustness.checks.pgd=7"): "robustness.checks.pgd=7 is not a check",
    ("robustness=quick", "robustness.depth=full"): "write robustness=full",
    ("robustness.threats.linf=0.1",): "robustness has settings but nothing is chosen; add robustness=NAME",
    ("inspection=quick", "inspection.search.goal=2"): "inspection.search.goal=2 must be above 0 and at most 1.",
    ("task=strengthen", "task.eps=0"): "task.eps=0 must be above 0.",
    ("task=design", "budget=-1"): "budget=-1 must be 0 or more.",
    ("+task.colour=1",): "There is no option 'task.colour'",
    ("device=abacus",): "device=abacus is unknown; allowed: auto, cpu, cuda",
    ("source=huggingface", "source.name=/nowhere"): "source.name=/nowhere is not a model folder",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_one_sentence_and_exit_code_2(typed, arguments):
    code, stderr = typed(*arguments)
    assert code == 2
    lines = stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and MISTAKES[arguments] in lines[0]


def test_debug_brings_the_traceback_back(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "debug=true", "run_dir=run", "seed=-1"])
    with pytest.raises(Exception, match="seed=-1 must be 0 or more"):
        cli.main()


def test_a_mistake_leaves_no_run_folder(typed, tmp_path):
    typed("target.shots=many")
    assert not (tmp_path / "run").exists()


def test_a_whole_run_and_the_folder_it_leaves(typed, tiny, tmp_path):
    assert typed(*tiny)[0] == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["schema"] == 1 and result["task"] == "reprogram" and result["target"]["train_labels"] == 8
    assert "image_folder" in (tmp_path / "run" / "config.yaml").read_text()
    code, stderr = typed(*tiny)
    assert code == 2 and "run_dir=run already holds a finished run; choose another folder or remove it." in stderr


def test_a_baseline_that_is_none_is_told_before_any_training(typed, tiny, monkeypatch):
    monkeypatch.setattr("reprogram.tasks.reprogram.load_sources", None)
    code, said = typed(*tiny[:-2], "task.baselines=[linear_prob]", "device=cpu")
    assert code == 2 and "task.baselines has 'linear_prob', which is no baseline; did you mean 'linear_probe'?" in said


def test_a_number_as_a_folder_name_is_text(typed, tiny, tmp_path):
    shutil.copytree(next(a for a in tiny if "root=" in a).partition("=")[2], tmp_path / "2024")
    assert typed(*tiny, "target.root=2024")[0] == 0


def test_a_tilde_is_the_home_of_the_user(typed, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert typed(*tiny, "run_dir=~/made")[0] == 0
    assert "already holds a finished run" in typed(*tiny, "run_dir='~/made'")[1]
    assert (tmp_path / "home" / "made" / "program" / "program.json").exists() and not (tmp_path / "~").exists()
    assert from_pretrained("~/made/program").target.classes == ("dark", "light")


def test_a_number_for_the_run_folder_is_its_name(typed, tiny, tmp_path):
    assert typed(*tiny, "run_dir=7")[0] == 0
    assert json.loads((tmp_path / "7" / "result.json").read_text())["robustness"] == {"rows": []}


def test_an_error_that_nobody_thought_of_is_one_sentence_and_keeps_the_folder(typed, tiny, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise KeyError("abc")

    monkeypatch.setattr("reprogram.tasks.reprogram.compare", broken)
    code, stderr = typed(*tiny)
    assert code == 1 and stderr.count("error: ") == 1 and "Traceback" not in stderr
    assert "stopped unexpectedly" in stderr and "'abc'" in stderr and "debug=true shows where" in stderr
    assert (tmp_path / "run" / "config.yaml").exists()


def test_every_setting_of_a_depth_stands_in_its_file():
    """The files repeat what the code declares; neither may move alone."""
    from reprogram.configuration import load
    from reprogram.robustness.plan import DEPTHS

    for depth in DEPTHS:
        assert load("inspection", depth).changes == {}


def test_every_option_that_takes_free_keys_is_known(tmp_path):
    """What is declared as a mapping must be open, or no user could add a key to it."""
    from typing import get_origin

    from hydra.utils import get_object
    from omegaconf import OmegaConf

    from reprogram.configuration import OPEN, config_folder, options
    from reprogram.typecheck import signature

    for group in groups():
        for option in options(group):
            node = OmegaConf.load(config_folder() / group / f"{option}.yaml")
            if "_target_" in node:
                for name, hint in signature(get_object(node._target_)).hints.items():
                    if getattr(get_origin(hint), "__name__", "") in ("dict", "Mapping"):
                        assert f"{group}.{name}" in OPEN


def test_a_sweep_goes_on_after_a_mistake(typed, tiny, tmp_path):
    code, stderr = typed("--multirun", "hydra.sweep.dir=sweep", *tiny, "target.shots=2,-1,3")
    assert code == 2 and stderr.count("error: ") == 1 and "target.shots=-1 must be 0 or more" in stderr
    labels = [json.loads((tmp_path / f"sweep/{i}/result.json").read_text())["target"]["train_labels"] for i in (0, 2)]
    assert labels == [4, 6] and not (tmp_path / "sweep/1/result.json").exists()


def folder_of(tmp_path, kind):
    root = tmp_path / "data"
    root.mkdir()
    for name in {"empty": "", "one class": "a", "few": "ab", "damaged": "ab"}[kind]:
        (root / name).mkdir()
        for i in range(10):
            Image.new("RGB", (1, 1), (i, ord(name), 0)).save(root / name / f"{i}.png")
    if kind == "damaged":
        for i in range(3):
            (root / "a" / f"{i}.png").write_bytes(b"broken")
    return root


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "holds no images"),
        ("one class", "has only the class 'a'; at least two classes are needed."),
        ("damaged", "3 of 20 images in"),
    ],
)
def test_data_that_cannot_be_used(typed, tmp_path, kind, sentence):
    code, stderr = typed("target=image_folder", f"target.root={folder_of(tmp_path, kind)}")
    assert code == 2 and sentence in stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["target.path=/nowhere.csv", "target.input_column=t", "target.label_column=l"], "/nowhere.csv"),
        (["target.path=FILE", "target.input_column=text", "target.label_column=lable"], "did you mean 'label'?"),
    ],
)
def test_a_table_that_is_missing_or_lacks_a_column(typed, tmp_path, arguments, sentence):
    file = tmp_path / "table.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(20)))
    code, stderr = typed("target=csv", *(a.replace("FILE", str(file)) for a in arguments))
    assert code == 2 and sentence in stderr


def test_strengthening_without_a_named_program_is_refused(typed, tiny):
    rest = [a for a in tiny if not a.startswith(("input", "output"))]
    code, stderr = typed(*rest, "training/adversarial=pgd")
    assert code == 2 and "training.adversarial needs a program that is trained by steps" in stderr


def test_a_setting_of_a_loss_that_was_not_chosen_says_how_to_choose_one(typed, tiny):
    code, stderr = typed(*tiny, "training=default", "training.adversarial=pgd", "training.adversarial.steps=3")
    assert code == 2 and "choose one first, as in training/adversarial=" in stderr


def test_images_of_one_pixel_and_of_ten_thousand(typed, tiny, tmp_path):
    root = tmp_path / "sizes"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (1, 1), 20 * i + 100 * (name == "b")).save(root / name / f"{i}.png")
    Image.new("L", (10_000, 10_000), 9).save(root / "a" / "giant.png", compress_level=1)
    assert typed(*tiny, f"target.root={root}", "target.shots=null", "target.size=32")[0] == 0


@pytest.mark.parametrize("file", ["result.json", "config.yaml"])
def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(typed, tiny, tmp_path, monkeypatch, file):
    real = os.replace

    def full(source, target):
        if Path(target).name == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    code, stderr = typed(*tiny)
    assert code == 2 and f"No space left on device (run/{file})." in stderr
    assert not [p.name for p in (tmp_path / "run").glob(f"*{file}*")]


def test_a_run_folder_that_cannot_be_made(typed, tmp_path):
    (tmp_path / "file").write_text("")
    code, stderr = typed("target=digits", "run_dir=file/run")
    assert code == 2 and "file/run" in stderr


def test_help_shows_every_choice_with_a_line(typed, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    shown = capsys.readouterr().out
    assert exit.value.code == 0
    for group in groups():
        assert f"\n{group}=\n" in shown
    assert "ridge_taps  " in shown and "seed: 0" in shown


def in_a_shell(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"HF_HUB_OFFLINE": "1"} | environment,
    )


def test_a_mistake_in_a_real_shell(tmp_path):
    ended = in_a_shell("target=mnits", "run_dir=run", cwd=tmp_path, HYDRA_FULL_ERROR="0")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: There is no target=mnits; did you mean 'mnist'?\n"


def test_a_run_in_a_real_shell_from_any_folder(tmp_path, tiny):
    ended = in_a_shell(*tiny, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "outputs" / "reprogram" / "reprogram").iterdir()
    assert (folder / "result.json").exists()


def test_import_takes_less_than_two_seconds():
    code = "import time; t = time.process_time(); import reprogram; print(time.process_time() - t)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 2.0


def test_import_leaves_heavy_packages_alone():
    code = "import reprogram, sys; print({'torch', 'transformers', 'rdkit', 'matplotlib'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("run_dir=größe/ä b", "run_dir='größe/ä b'"),
        ("target.path=a (1).csv", "target.path='a (1).csv'"),
        ("target.path=a=b.csv", "target.path='a=b.csv'"),
        ("target.shots=4,16", "target.shots=4,16"),
        ("target.label_column=[ä,b]", "target.label_column=[ä,b]"),
        ("run_dir='ä'", "run_dir='ä'"),
        ("seed=range(1,3)", "seed=range(1,3)"),
        ("--multirun", "--multirun"),
    ],
)
def test_paths_with_letters_that_hydra_does_not_know_need_no_second_quotes(typed, passed):
    assert cli.readable(typed) == passed


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("LexerNoViableAltException: sørce=x\n  ^", "'sørce=x' cannot be read; write key=value"),
        ("no viable alternative at input '[x'", "'[x' cannot be read; write key=value"),
        ("Ambiguous value for argument 'target.root=A,b'\n1. To", "\"target.root='A,b'\" for one text"),
    ],
)
def test_what_hydra_cannot_parse_is_told_with_what_to_type(error, sentence):
    assert sentence in cli.sentence(HydraException(error))
