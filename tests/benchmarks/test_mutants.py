"""Mutants follow what they change: a row whose text or test was renamed would break nothing, and nobody would see it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _mutants():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("mutants", ROOT / "benchmarks" / "mutants.py")
        module = sys.modules["mutants"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.MUTANTS
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("mutant", _mutants(), ids=lambda mutant: mutant.what)
def test_each_changes_one_place_and_names_tests_that_exist(mutant):
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1 and mutant.old != mutant.new
    path, _, name = mutant.tests.partition("::")
    assert f"def {name.split('[')[0]}" in (ROOT / path).read_text()


def test_the_package_is_not_imported_before_it_is_broken():
    """Else the tests of a mutant would run on the whole package, and all mutants would survive."""
    code = "import mutants, sys; print(sorted({'reprogram', 'molecules'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "benchmarks", capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
