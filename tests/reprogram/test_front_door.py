"""What ``import reprogram`` shows: its public names, typed for those who check their own code strictly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import reprogram

SNIPPET = """
import numpy as np

from reprogram import ReprogrammedClassifier, from_pretrained, load_target

model = ReprogrammedClassifier()
model.fit(np.zeros((4, 8, 8, 3)), np.array([0, 1, 0, 1]))
classes: tuple[str, ...] = load_target("digits").info.classes
number: int = load_target("digits").info.classes
"""


def test_public_names_are_there_and_listed():
    assert dir(reprogram) == sorted(reprogram.__all__)
    assert all(getattr(reprogram, name) is not None for name in reprogram.__all__)


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
    assert [line.rsplit("[", 1)[1] for line in wrong] == ["assignment]"], ran.stdout
