"""Methods of another package: installed, found by name, configured, kept in a program and loaded again."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "example_package"
METADATA = "Metadata-Version: 2.1\nName: sketches\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip installed the example package into."""
    wheel = tmp_path_factory.mktemp("wheel") / "sketches-1.0-py3-none-any.whl"
    files = {str(f.relative_to(EXAMPLE)): f.read_bytes() for f in sorted((EXAMPLE / "sketches").rglob("*")) if f.is_file()}
    files = {name: data for name, data in files.items() if "__pycache__" not in name}
    about = {"METADATA": METADATA, "WHEEL": WHEEL, "entry_points.txt": (EXAMPLE / "entry_points.txt").read_text()}
    files |= {f"sketches-1.0.dist-info/{name}": text.encode() for name, text in about.items()}
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    record.append("sketches-1.0.dist-info/RECORD,,")
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("sketches-1.0.dist-info/RECORD", "\n".join(record) + "\n")
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    return folder


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(installed), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, cwd=installed)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_an_input_and_an_attack_from_outside_are_used_kept_and_loaded_again(installed: Path, tmp_path: Path) -> None:
    shared = ["source=small_cnn", "target=digits", "target.test_size=40"]
    made = run(
        installed, *shared, "input=tint", "output=linear_features", "training.epochs=1", "target.shots=4",
        "task.baselines=[]", "robustness=quick", "robustness.also=[checkerboard]", f"run_dir={tmp_path / 'made'}",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    result = json.loads((tmp_path / "made" / "result.json").read_text())
    assert result["program"]["input"] == "tint"
    found = next(row for row in result["robustness"]["rows"] if row["check"] == "checkerboard")
    assert found["access"] == "label" and found["family"] == "linf" and found["kind"] == "attack"
    again = run(
        installed, *shared, "task=evaluate", f"program={tmp_path / 'made' / 'program'}", f"run_dir={tmp_path / 'again'}"
    )
    assert again.returncode == 0, again.stderr
    assert rows(tmp_path / "again") == rows(tmp_path / "made")


def test_a_modality_from_outside_is_searched_and_reported(installed: Path, tmp_path: Path) -> None:
    made = run(installed, "source=small_cnn", "target=strokes", "task.baselines=[]", f"run_dir={tmp_path / 'made'}")
    assert made.returncode == 0, made.stderr
    result = json.loads((tmp_path / "made" / "result.json").read_text())
    assert result["target"]["kind"] == "strokes" and result["program"]["input"] == "drawn"
    assert {row["candidate"] for row in result["auto"]["rows"]} >= {"linear probe", "layers"}


def test_an_oracle_from_outside_is_designed_for(installed: Path, tmp_path: Path) -> None:
    made = run(
        installed, "task=design", "oracle=carbons", "budget=30", "start=smiles", "start.smiles=[CCO]",
        "search=genetic", f"run_dir={tmp_path / 'made'}",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    best = json.loads((tmp_path / "made" / "result.json").read_text())["best"][0]
    assert best["score"] > 2


def test_entry_points_alone_make_choices_of_the_command_line(installed: Path, tmp_path: Path) -> None:
    """No option file: an oracle, a search and a constraint are found by name, with their arguments as options."""
    made = run(
        installed, "task=design", "oracle=atoms", "oracle.element=N", "search=grow", "constraints=none",
        "constraints.others.light={most: 5}",
        "budget=30", "start=smiles", "start.smiles=[CCO]", f"run_dir={tmp_path / 'made'}",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    best = json.loads((tmp_path / "made" / "result.json").read_text())["best"][0]
    assert best["smiles"] == "CCONN" and best["score"] == 2
    slip = run(installed, "task=design", "oracle=atoms", "oracle.elment=N", f"run_dir={tmp_path / 'slip'}")
    assert slip.returncode == 2 and "'element'" in slip.stderr


def test_the_same_names_from_python(installed: Path) -> None:
    code = (
        "import molecules\n"
        "found = molecules.design('atoms', ['CCO'], 30, search='grow', constraints=[])\n"
        "print(found.best(1)[0].score, molecules.load_oracle('carbons').score(['CCO']))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert told.stdout.split() == ["12.0", "[2.]"], told.stderr


def test_without_the_package_its_program_is_refused_in_one_sentence(installed: Path, tmp_path: Path) -> None:
    shared = ["source=small_cnn", "target=digits", "target.test_size=40"]
    made = run(
        installed, *shared, "input=tint", "output=frequency", "training.epochs=1", "target.shots=4",
        "task.baselines=[]", f"run_dir={tmp_path / 'made'}",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    bare = run(tmp_path, *shared, "task=evaluate", f"program={tmp_path / 'made' / 'program'}", f"run_dir={tmp_path / 'a'}")
    assert bare.returncode == 2 and "no 'tint'" in bare.stderr and "Traceback" not in bare.stderr


def test_the_help_lists_what_other_packages_add(installed: Path) -> None:
    told = run(installed, "--help").stdout
    assert "tint" in told and "checkerboard" in told and "how many carbon atoms" in told
    assert re.search(r"^  atoms +of the package sketches$", told, re.M)
