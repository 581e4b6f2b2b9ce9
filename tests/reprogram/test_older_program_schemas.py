"""Descriptions of earlier schemas become today's; anything odd in them is left for the checks to name."""

from __future__ import annotations

from typing import Any

import pytest

from reprogram.older_programs import SCHEMA, convert


def described(**parts: Any) -> dict[str, Any]:
    return {"schema": 1, "input": {"name": "none", "config": {}}, "output": {"name": "linear", "config": {}}} | parts


def test_poolings_and_options_get_their_new_names_also_inside_an_ensemble() -> None:
    member = {"name": "ridge_taps", "config": {"layers": ["layer_1@spread", "layer_2", "kmers@beside"]}, "views": []}
    found = convert(
        described(
            input={"name": "smiles", "config": {"spellings": 3, "tokens": "own"}},
            output={"name": "ensemble", "config": {"members": [member]}},
        )
    )
    assert found["schema"] == SCHEMA
    assert found["input"]["config"] == {"views": 3, "tokens": "own"}
    assert found["output"]["config"]["members"][0]["config"]["layers"] == ["layer_1@std", "layer_2", "kmers@side"]
    assert member["config"]["layers"] == ["layer_1@spread", "layer_2", "kmers@beside"], "what was read is not changed"


def test_todays_descriptions_are_left_alone() -> None:
    today = described(output={"name": "ridge_taps", "config": {"layers": ["layer_1@spread"]}}) | {"schema": SCHEMA}
    assert convert(today) == today


@pytest.mark.parametrize(
    "odd", [{}, {"input": 3}, {"input": {"name": 1, "config": []}}, {"output": {"config": {"layers": [1, None]}}}]
)
def test_odd_descriptions_do_not_stop_the_conversion(odd: dict[str, Any]) -> None:
    assert convert({"schema": 1} | odd)["schema"] == SCHEMA
    assert convert({"schema": 99} | odd)["schema"] == 99
    assert "schema" not in convert(odd)
