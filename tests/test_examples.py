"""The scripts of docs/examples run as they stand, at small sizes."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
SMALL = {
    "own_images.py": ("--source small_cnn --shots 4 --size 32", "loaded again: ["),
    "own_molecules.py": ("--budget 30 --search genetic", "30 of 30 evaluations"),
    "black_box.py": ("--source small_cnn --shots 2 --test-size 10 --sizes 28", "60 queries: {'evaluation': 20, 'training': 40}"),
}


def test_every_example_is_run():
    assert {file.name for file in EXAMPLES.glob("*.py")} == SMALL.keys()


@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs_to_the_end(name, monkeypatch, capsys):
    arguments, told = SMALL[name]
    monkeypatch.setattr(sys, "argv", [name, *arguments.split()])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert told in capsys.readouterr().out
