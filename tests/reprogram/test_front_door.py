"""What ``import reprogram`` and ``import molecules`` show: public names, typed for those who check their code strictly."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import reprogram
from reprogram import inputs, outputs
from reprogram.interfaces import InputTransformation, OutputMapping
from reprogram.registry import find, names

SNIPPET = """
import numpy as np

import molecules
from molecules import MoleculeOracle, Objective
from reprogram import ReprogrammedClassifier, from_pretrained, load_target
from reprogram.inputs import Pad
from reprogram.outputs import RidgeTaps
from reprogram.robustness import evaluate

model = ReprogrammedClassifier(input=Pad(size=64), output=RidgeTaps())
model.fit(np.zeros((4, 8, 8, 3)), np.array([0, 1, 0, 1]))
classes: tuple[str, ...] = load_target("digits").info.classes
seed: int = evaluate(from_pretrained("program"), ([], []), "quick").data["seed"]
found = molecules.design("qed", ["CCO"], budget=10, constraints={"similarity": 0.4})
best: str = found.best(1)[0].smiles


class Atoms(MoleculeOracle):
    name = "atoms"

    def value(self, mol: object) -> float:
        return 1.0


goal: Objective = molecules.load_objective(Atoms())
number: int = load_target("digits").info.classes
first: int = molecules.design("qed", "CCO").best(1)[0].score
"""


@pytest.mark.parametrize("package", ["reprogram", "reprogram.robustness", "molecules"])
def test_public_names_are_there_and_listed(package):
    module = import_module(package)
    assert dir(module) == sorted(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert not hasattr(module, "no_such_name")


def test_inputs_and_outputs_by_class():
    for room, base in ((inputs, InputTransformation), (outputs, OutputMapping)):
        for method in (find(room.__name__, name, base) for name in names(room.__name__)):
            if method.__module__.startswith(room.__name__):
                assert getattr(room, method.__name__) is method
    with pytest.raises(ImportError):
        from reprogram.inputs import NoSuchMethod  # noqa: F401


def test_importing_a_package_stays_light():
    code = "import sys, reprogram, molecules; print([m for m in ('torch', 'rdkit', 'transformers') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_strict_types_reach_a_users_code(tmp_path):
    """mypy --strict accepts what is right and sees what is not."""
    (tmp_path / "snippet.py").write_text(SNIPPET)
    options = ["--strict", "--follow-imports=silent", "--ignore-missing-imports", f"--cache-dir={tmp_path}/cache"]
    root = Path(reprogram.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "snippet.py"],
        cwd=tmp_path, capture_output=True, text=True, env={"MYPYPATH": str(root), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    wrong = [line for line in ran.stdout.splitlines() if ": error:" in line]
    lines = SNIPPET.splitlines()
    assert [lines[int(line.split(":")[1]) - 1].partition(":")[0] for line in wrong] == ["number", "first"], ran.stdout
