from zlib import crc32

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from molecules.invariance import InvarianceHook, _voted, equivalent_forms, invariance, random_forms, rows, same_molecule
from reprogram.interfaces import TargetInfo, TargetTask
from reprogram.targets.base import StringExamples

SMILES = ["CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "C[C@H](N)C(=O)O", "c1ccncc1"]


@settings(max_examples=20, deadline=None)
@given(smiles=st.sampled_from(SMILES), seed=st.integers(0, 1000))
def test_every_form_is_the_same_molecule(smiles, seed):
    forms = random_forms(smiles, 5, seed)
    assert forms and forms == random_forms(smiles, 5, seed)
    for form in [*forms, *equivalent_forms(smiles).values()]:
        assert same_molecule(smiles, form)
    assert not same_molecule(smiles, "CCO")


def counts_oxygen(texts):
    """Reads the molecule: the same for every spelling."""
    count = torch.tensor([float(t.count("O") + t.count("o")) for t in texts])
    return torch.stack([1.5 - count, count - 1.5], 1)


def reads_handwriting(texts):
    """Answers by the first letter: a spelling decides."""
    first = torch.tensor([float(t[0] in "Cc") for t in texts])
    return torch.stack([first, 1 - first], 1)


def test_a_model_of_molecules_does_not_flip_and_a_reader_of_strings_does():
    labels = counts_oxygen(SMILES).argmax(1)
    still = invariance(counts_oxygen, SMILES, labels, count=10)
    assert still.flips.sum() == 0 and still.worst.all() and float(still.std.max()) == pytest.approx(0, abs=1e-5)
    told = invariance(reads_handwriting, SMILES, reads_handwriting(SMILES).argmax(1), count=10)
    assert told.flips.mean() > 0.05 and not told.worst.all()
    table = {row.check: row for row in rows(told, 10)}
    assert "how the molecule is written" in table["smiles_flip_rate"].flags[0].text
    assert table["smiles_worst_case"].kind == "attack" and table["smiles_std"].kind == "estimate"


def test_voting_repairs_what_few_ways_of_writing_break():
    """One way in six is answered wrongly: no vote of five can lose; where half are, many do."""

    def wrong_for_one_in_six(texts):
        wrong = torch.tensor([float(crc32(t.encode()) % 6 == 0) for t in texts])
        return torch.stack([2 * wrong - 1, 1 - 2 * wrong], 1)

    few = [_voted(torch.tensor([[0.9, 0.1]] * k + [[0.1, 0.9]] * (12 - k)), 1, 20, 0) for k in (0, 2, 6)]
    assert few[0] == few[1] == (True, 0.0) and not few[2][0] and few[2][1] > 0.2
    found = invariance(wrong_for_one_in_six, SMILES[:2] * 5, torch.ones(10, dtype=torch.long), count=20)
    table = {row.check: row for row in rows(found, 20)}
    assert table["smiles_vote_worst_case"].value > table["smiles_worst_case"].value + 0.3
    assert table["smiles_vote_flip_rate"].value < table["smiles_flip_rate"].value
    assert table["smiles_vote_worst_case"].more["repairs"] == "smiles_worst_case"


def test_unreadable_molecules_are_skipped_and_counted():
    found = invariance(counts_oxygen, ["CCO", "not a molecule"], torch.tensor([0, 0]), count=3)
    assert found.skipped == 1 and len(found.flips) == 1
    assert "1 molecule cannot be read" in rows(found, 3)[0].flags[0].text


def test_the_hook_looks_at_molecule_targets_only(empty_run):
    examples = StringExamples(SMILES, counts_oxygen(SMILES).argmax(1).numpy())
    info = TargetInfo("m", "molecule", "classification", ("a", "b"))
    InvarianceHook(molecules=3, count=4).on_fit_end(empty_run, counts_oxygen, TargetTask(info, examples, examples))
    assert {"smiles_worst_case", "smiles_kekulised"} <= {
        r["check"] for r in empty_run.result.data["robustness"]["rows"]
    }
    text = TargetInfo("m", "text", "classification", ("a", "b"))
    before = len(empty_run.result.data["robustness"]["rows"])
    InvarianceHook().on_fit_end(empty_run, counts_oxygen, TargetTask(text, examples, examples))
    assert len(empty_run.result.data["robustness"]["rows"]) == before
