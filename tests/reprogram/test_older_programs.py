"""Programs kept by version 0.1.0 load and answer as they did: people keep their programs, whatever is renamed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprogram import from_pretrained

KEPT = Path(__file__).parent / "programs_0_1_0"


def digits() -> torch.Tensor:
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().images[:6, None] / 16, dtype=torch.float32)


INPUTS: dict[str, Any] = {
    "image": digits,
    "molecule": lambda: ["CC(=O)Oc1ccccc1C(=O)O", "CCO", "c1ccc2ccccc2c1"],
    "sequence": lambda: ["GIGKFLHSAKKFGKAFVGEIMNS", "MKTAYIAKQR", "KWKLFKKIEKVGQNIRDGIIKAGPAVAVVGQATQIAK"],
}


@pytest.mark.parametrize("name", INPUTS)
def test_a_program_of_version_0_1_0_answers_as_it_did(name: str) -> None:
    expected = json.loads((KEPT / "answers.json").read_text())[name]
    answers = from_pretrained(KEPT / name).predict_proba(INPUTS[name]())
    np.testing.assert_allclose(np.asarray(answers), expected, atol=2e-5)
