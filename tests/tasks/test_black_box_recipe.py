"""The recipe for black-box models, on tiny images: its bill, its cache, its budget."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from reprogram.configuration import config_folder
from reprogram.errors import BudgetSpent
from reprogram.tasks.reprogram import run

SMALL = ["target=digits", "target.shots=2", "target.test_size=20", "input.sizes=[32,40]", "task.baselines=[]"]


def recipe(folder: Path, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", ["experiment=black_box", *SMALL, f"run_dir={folder}", *overrides])
    folder.mkdir()
    try:
        run(config)
    finally:
        kept = folder / "answers" / "answers.db"
        with contextlib.closing(sqlite3.connect(kept)) as database:
            (queries,) = database.execute("SELECT count(*) FROM calls").fetchone()
    return json.loads((folder / "result.json").read_text()) | {"journalled": queries}


def test_recipe_bills_training_and_evaluation_and_asks_nothing_twice(tmp_path: Path) -> None:
    first = recipe(tmp_path / "a", "budget.price_per_query=0.01")
    assert first["cost"]["by_kind"] == {"training": 20 * 4, "evaluation": 20 * 4}
    assert first["journalled"] == first["cost"]["queries"] == 160
    assert first["cost"]["price"] == pytest.approx(1.6)
    assert "It took 80 queries (1.6 in all, evaluation included)." in first["verdict"]
    second = recipe(tmp_path / "b", f"source.cache={tmp_path / 'a' / 'answers'}")
    assert second["cost"]["queries"] == 0 and second["cost"]["saved_share"] == 1
    assert second["metrics"] == first["metrics"]


def test_budget_that_cannot_pay_for_the_first_pass_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent, match=r"needs 80 queries for 20 examples and 79 are left in the budget, so none"):
        recipe(tmp_path / "a", "budget.queries=79")
    with contextlib.closing(sqlite3.connect(tmp_path / "a" / "answers" / "answers.db")) as database:
        assert database.execute("SELECT * FROM sends").fetchall() == [], "nothing was asked"


def test_search_ends_at_the_budget_with_the_program_it_has(tmp_path: Path) -> None:
    found = recipe(
        tmp_path / "a",
        "budget.queries=150",
        "training=rgf",
        "training.optimiser.directions=2",
        "output=top_k",
        "input=coarse",
        "input.size=32",
        "input.grid=2",
        "~input.sizes",
        "~input.invert",
    )
    assert found["cost"]["ended"].startswith("The budget is spent (budget.queries=150;")
    assert found["cost"]["by_kind"]["training"] <= 150
    assert 20 < found["history"][0]["queries"] <= 150
    assert found["program"]["trained"] == 12
