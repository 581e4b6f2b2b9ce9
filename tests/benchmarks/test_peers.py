"""Published code beside ours: with every choice alike both sides find the same program, and what is missing is named.

The checkout is made here, with a frame and a counting rule of this file's own.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reprogram.errors import DataError
from reprogram.training.backpropagation import Backpropagation

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import _peer_code
import _peer_page
import _peer_runs
import _peer_steps
from _peer_agreement import Parts, frame, same_classes
from _peer_methods import Place, network, normalize
from _peer_pairs import PAIRS

FRAME = '''
import torch
import plots_of_mappings  # a package that is installed nowhere

class ExpansiveVisualPrompt(torch.nn.Module):
    def __init__(self, out_size, mask, normalize=None):
        super().__init__()
        edge = (out_size - len(mask)) // 2
        self.program = torch.nn.Parameter(torch.zeros(3, out_size, out_size))
        inner = torch.nn.functional.pad(torch.ones(3, *mask.shape), (edge,) * 4)
        self.register_buffer("mask", 1 - inner)
        self.edge, self.normalize = edge, normalize

    def forward(self, x):
        x = torch.nn.functional.pad(x, (self.edge,) * 4) + self.program.sigmoid() * self.mask
        return x if self.normalize is None else self.normalize(x)

PaddingVR = ExpansiveVisualPrompt
'''
COUNTS = '''
import torch

def generate_label_mapping_by_frequency(prompt, network, loader):
    """Each class takes its most frequent free answer; the most frequent pair of all goes first."""
    with torch.no_grad():
        answers = [(network(prompt(x)).argmax(1), y) for x, y in loader]
    answer, label = (torch.cat(column).cpu() for column in zip(*answers))
    table = torch.zeros(1000, 10)
    table.index_put_((answer, label.long()), torch.ones(len(label)), accumulate=True)
    chosen = torch.zeros(10, dtype=torch.long)
    for _ in range(10):
        source, target = divmod(int(table.argmax()), 10)
        chosen[target] = source
        table[source], table[:, target] = -1, -1
    return chosen
'''


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    for file, text in (("models/visual_prompt.py", FRAME), ("algorithms/flm_calculation.py", COUNTS)):
        path = folder / "ILM-VP" / file
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return folder


@pytest.fixture
def code(checkout, monkeypatch):
    monkeypatch.setattr(_peer_code, "LOGGERS", (*_peer_code.LOGGERS, "plots_of_mappings"))
    return _peer_code.Checkout(checkout)


def test_what_is_missing_is_named(checkout, tmp_path):
    with pytest.raises(DataError, match=r"git clone https://github\.com/OPTML-Group/ILM-VP ILM-VP"):
        _peer_code.Checkout(tmp_path / "none")
    there = _peer_code.Checkout(checkout)
    with pytest.raises(DataError, match=r"SMM/instance_model.py is missing, as is its folder; git clone .*tmlr-group/SMM SMM"):
        there.load("SMM", "instance_model.py")
    with pytest.raises(DataError, match=r"visual_prompt\.py cannot be imported: No module named 'plots_of_mappings'"):
        there.load("ILM-VP", "models/visual_prompt.py")
    assert not any(name.startswith("wandb") for name in sys.modules)


def few(seed=0):
    task = _peer_runs.load("digits", seed, None, 30)
    rows = np.concatenate([np.flatnonzero(task.train.labels == c)[:2] for c in range(10)])
    task.train = task.train.subset(rows)
    return task


@torch.no_grad()
def test_the_packages_network_and_ours_are_one(code):
    place, images = Place(code, 48, 28, 1, torch.device("cpu"), 0), torch.rand(2, 3, 48, 48)
    plain = network(place)(normalize(images))
    assert torch.allclose(plain, network(replace(place, switches=frozenset({"folded"})))(images), atol=1e-3)


def test_with_every_choice_alike_both_loops_train_the_same_frame(code, monkeypatch):
    pair, task = replace(PAIRS["ILM-VP"], optimiser=lambda: Backpropagation(schedule="constant")), few()
    monkeypatch.setattr(pair.published, "batch", 10)
    monkeypatch.setattr(pair.published, "schedulers", lambda self, optimisers: [])  # so few epochs have no milestones
    place = Place(code, 48, 28, 3, torch.device("cpu"), 0, frozenset(pair.published.causes))
    theirs, _ = _peer_runs.trained(pair, task, place)
    ours, _ = _peer_runs.ours_trained(pair, task, place)
    assert torch.allclose(theirs.prompt.program[:, ours.input._frame], ours.input.delta, atol=2e-3)
    assert theirs.sequence.tolist() == ours.output.index[:, 0].tolist()
    assert (_peer_runs.predictions(theirs, task) == ours.predict(task.test)).mean() > 0.9


def test_from_one_start_both_loops_give_the_same_numbers_until_one_choice_differs(code, monkeypatch):
    pair, task = PAIRS["ILM-VP"], few()
    monkeypatch.setattr(pair.published, "batch", 10)
    place = Place(code, 48, 28, 200, torch.device("cpu"), 0)
    found = _peer_steps.side_by_side(pair, task, place, 2)
    assert found["steps"] == 2 and len(found["ours"]) == 2
    assert found["same network"] == pytest.approx(found["ours"], rel=1e-5)
    assert max(found["same network, program"]) < 1e-3
    assert found["package's network"] == pytest.approx(found["ours"], rel=0.05)
    other = _peer_steps.side_by_side(pair, task, place, 1, but="order")
    assert other["same network, program"][0] > 10 * max(found["same network, program"])


def test_where_a_step_sees_every_image_the_mapping_is_the_published_one_of_its_own_pass(code, monkeypatch):
    pair, task = PAIRS["ILM-VP"], few()
    place = Place(code, 48, 28, 200, torch.device("cpu"), 0)
    for batch, same in ((32, True), (10, False)):
        monkeypatch.setattr(pair.published, "batch", batch)
        found = _peer_steps.side_by_side(pair, task, place, 3, but="observe")
        gaps = np.abs(np.array(found["same network"]) / found["ours"] - 1)
        assert gaps[0] < 1e-5
        assert (gaps[2] < 1e-4) == same


def test_a_repeat_moves_the_start_by_a_millionth(code):
    method = PAIRS["ILM-VP"].published(Place(code, 48, 28, 1, torch.device("cpu"), 0))
    _peer_runs.moves(3)(method, 0, 0.0)
    assert not method.prompt.program.any()
    _peer_runs.moves(3)(method, -1, 0.0)
    assert 0 < method.prompt.program.abs().max() < 1e-5


def test_parts_are_compared_on_the_same_numbers(code, monkeypatch):
    import _peer_agreement

    parts = Parts(code, 0)
    monkeypatch.setattr(_peer_agreement, "Blm", _peer_agreement.IlmVp)  # the other repository is not here
    assert frame(parts) == 0
    assert same_classes(parts, 1000, draws=3) > 0.9 > 0.5 < same_classes(parts, 16, draws=3) <= 1


def cell(part, who, accuracy, seed=0, **more):
    return {
        "part": part, "method": "ILM-VP", "data": "digits", "seed": seed, "who": who, "accuracy": accuracy,
        "device": "a processor", "side": 96, "epochs": 40, "test": 500,
    } | more  # fmt: skip


def test_the_page_names_causes_and_who_is_ahead():
    cells = [cell("accuracy", "published", 0.5 + 0.01 * s, s) for s in range(3)]
    cells += [cell("accuracy", "ours", 0.5 + 0.012 * s, s) for s in range(3)]
    cells += [cell("ladder", "published", 0.5, s) for s in range(3)]
    cells += [cell("ladder", "float32", 0.5 + 0.01 * (s - 1), s) for s in range(3)]
    cells += [cell("ladder", "float32+batch", 0.6 + 0.01 * (s - 1), s) for s in range(3)]
    seconds = {"published": 8.0, "ours": 2.0, "floor": 1.5, "input": 0.1, "faster": 4.0}
    cells += [cell("speed", "both", 0, data="digits, 96 px", images=160, **seconds)]
    losses = {"steps": 2, "ours": [2.0, 1.0], "same network": [2.0, 1.0], "package's network": [2.002, 1.1]}
    programs = {"same network, program": [0.0, 1e-6], "package's network, program": [0.1, 0.2]}
    cells += [cell("steps", "alike", 0) | losses | programs]
    cells += [cell("repeats", "published", 0.5 + 0.1 * s, s) for s in range(2)]
    text, figures = _peer_page.page(cells)
    assert "| ILM-VP | 2 | same | 0e+00 | 0e+00 | 1e-06 | none |" in text
    assert "| ILM-VP | 2 | package's | 1e-03 | 9e-02 | 2e-01 | epoch 2 |" in text
    assert "| ILM-VP | digits | 40 | 0.500, 0.600 | 0.550 | 0.071 |" in text
    assert "0.510 ± 0.006 (3) | 0.512 ± 0.007 (3) | +0.002 ± 0.001 | yes | within noise |" in text
    assert "in float32 instead of their half precision (GPUs only) | 0.500 ± 0.006 (3) | +0.000 ± 0.006 |  |" in text
    assert "64 images a step instead of theirs | 0.600 ± 0.006 (3) | +0.100 ± 0.000 | yes |" in text
    assert "| ILM-VP | digits, 96 px | 8.00 | 2.00 | 1.50 | 0.10 | x 4.0 | x 5.0 | – | – |" in text and figures["faster"]
    assert "Over noise: 64 images a step instead of theirs (+0.100)." in text
    lost = [cell("accuracy", w, a, s) for s in range(3) for w, a in (("published", 0.5), ("ours", 0.4))]
    assert "| -0.100 ± 0.000 | no | not named |" in _peer_page.page(lost)[0]
    assert "accuracy at the authors' resolution and epochs: ILM-VP, BLM" in text
    pairs = cells + [cell("accuracy", w, a, s, data="wide") for s in range(2) for w, a in (("published", 0.5), ("ours", 0.3))]
    assert "Over all rows of a method: ILM-VP -0.079 ± 0.049 (5 pairs)." in _peer_page.page(pairs)[0]
