"""task=evaluate: a kept program on new data, on the command line."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from reprogram.artifact import describe_program
from reprogram.errors import ArtifactError


@pytest.fixture
def made(typed, tiny, tmp_path):
    """A finished run in ``made/``."""
    code, stderr = typed(*tiny, folder="made")
    assert code == 0, stderr
    return tmp_path / "made"


def images(arguments):
    return Path(next(a for a in arguments if a.startswith("target.root=")).partition("=")[2])


def evaluated(typed, tiny, *more):
    where = ["target=image_folder", f"target.root={images(tiny)}", "device=cpu"]
    return typed("task=evaluate", "program=made/program", *where, *more)


def test_the_same_test_data_gives_the_same_numbers(typed, tiny, made, tmp_path):
    code, stderr = evaluated(typed, tiny)
    assert code == 0, stderr
    then, now = (json.loads((tmp_path / f / "result.json").read_text()) for f in ("made", "run"))
    assert now["task"] == "evaluate" and now["metrics"] == then["metrics"] and now["baselines"] == {}
    assert now["kept"]["metrics"] == then["metrics"] and now["source"] == then["source"]
    assert (tmp_path / "run" / "predictions.csv").read_text() == (made / "predictions.csv").read_text()
    assert (tmp_path / "run" / "report.html").exists() and not (tmp_path / "run" / "program").exists()
    assert "in the original run, and the intervals overlap" in now["verdict"]


def test_all_examples_of_new_data_with_other_sizes_and_fewer_classes_in_the_test(typed, tiny, made, tmp_path):
    new = tmp_path / "new"
    for name, colour in (("light", 200), ("dark", 40)):
        (new / name).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (20, 31), colour + i).save(new / name / f"{i}.png")
    code, stderr = evaluated(typed, tiny, f"target.root={new}", "task.examples=all")
    assert code == 0, stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["target"]["test_size"] == 10 and result["target"]["name"] == "new"
    assert result["target"]["classes"] == ["dark", "light"]


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        ({"roc_auc": {"value": 0.91}}, "it reached 0.910 in the original run."),  # the example of docs/programs.md
        ({"roc_auc": 0.91}, "it reached 0.910 in the original run."),
        ({"roc_auc": {"value": 1, "low": 1, "high": 1}}, "it reached 1.000 (1.000 to 1.000) in the original run, and"),
        ({"roc_auc": "good"}, "examples of images."),
        ([], "examples of images."),
    ],
)
def test_metrics_that_somebody_else_kept(typed, tiny, made, tmp_path, kept, sentence):
    path = made / "program" / "program.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": kept}))
    code, stderr = evaluated(typed, tiny)
    assert code == 0, stderr
    assert sentence in json.loads((tmp_path / "run" / "result.json").read_text())["verdict"]


def test_unknown_classes_and_other_kinds_get_a_sentence(typed, tiny, made, tmp_path):
    other = shutil.copytree(images(tiny), tmp_path / "other")
    for part in ("train", "test"):
        (other / part / "light").rename(other / part / "lihgt")
    code, stderr = evaluated(typed, tiny, f"target.root={other}")
    assert code == 2 and "has the class 'lihgt', which the program does not know; did you mean 'light'?" in stderr


def test_a_program_for_another_source_is_refused(typed, tiny, made):
    code, stderr = evaluated(typed, tiny, "source=efficientnet_lite0")
    assert code == 2 and "belongs to source" in stderr and "'efficientnet_lite0' has" in stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["task=evaluate"], "task=evaluate needs a kept program: program=RUN_FOLDER/program"),
        (["task=evaluate", "program=./nowhere"], "There is no folder nowhere; a program is a folder or a Hub id"),
        (["task=evaluate", "program=."], "program.json cannot be read: No such file or directory."),
    ],
)
def test_a_program_that_is_not_there(typed, arguments, sentence):
    code, stderr = typed(*arguments)
    assert code == 2 and sentence in stderr


def test_the_folder_of_a_run_is_no_program(tmp_path):
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "program.json").write_text("{}")
    with pytest.raises(ArtifactError, match=f"its program is {tmp_path / 'program'}"):
        describe_program(tmp_path)
