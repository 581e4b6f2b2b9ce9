"""``result.json``: written whole or not at all, as readable as any other file, NaN as null."""

from __future__ import annotations

import json
import os
import stat

import numpy as np
import pytest

from reprogram.result import Result, write_atomically


def test_files_get_the_users_own_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "page.html", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o640


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a.txt", "old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "a.txt", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_numbers_that_json_lacks_become_null(tmp_path):
    result = Result("reprogram", 3)
    result.data["metrics"] = {"accuracy": np.float32("nan"), "values": np.array([1.0, np.inf])}
    data = json.loads(result.write(tmp_path).read_text())
    assert data["metrics"] == {"accuracy": None, "values": [1.0, None]} and data["seed"] == 3


def test_kinds_of_checks_are_never_mixed_up():
    with pytest.raises(ValueError, match="attack, certificate, estimate or inspection"):
        Result("reprogram", 0).add_check("pgd", "proof", "linf", 0.5)
