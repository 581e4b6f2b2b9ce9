"""APGD's own arithmetic, step by step (Croce & Hein 2020, algorithm 1 and section 3.1; l1 after their paper of 2021)."""

from types import SimpleNamespace

import pytest
import torch

from reprogram.robustness.attacks.apgd import L1_SHRINK, _Run, _sparse
from reprogram.threat import Threat


def run(norm="linf", eps=0.4, steps=10):
    return _Run(lambda x: x, Threat(norm, eps), steps, None, None)


def state(**more):
    """One example of two pixels."""
    x = torch.tensor([[0.5, 0.5]])
    kept = {
        "x0": torch.tensor([[0.4, 0.4]]), "x": x, "before": torch.tensor([[0.3, 0.45]]), "gradient": torch.tensor([[2.0, -1.0]]),
        "step": torch.tensor([0.1]), "best": torch.tensor([[0.7, 0.1]]), "best_gradient": torch.tensor([[9.0, 9.0]]),
        "best_loss": torch.tensor([1.0]), "best_at_check": torch.tensor([0.5]), "reduced": torch.tensor([False]),
        "history": torch.arange(10.0)[None], "share": torch.tensor([0.5]), "nonzero": torch.tensor([2.0]),
    }  # fmt: skip
    return SimpleNamespace(**(kept | more))


def test_a_step_keeps_a_quarter_of_the_way_that_was_gone():
    s = state()
    run()._move(s, first=False)
    # z = x + .1 (1, -1); x + .75 (z - x) + .25 (x - before)
    assert torch.allclose(s.x, torch.tensor([[0.5 + 0.075 + 0.05, 0.5 - 0.075 + 0.0125]]))
    assert s.before.tolist() == [[0.5, 0.5]]
    s = state()
    run()._move(s, first=True)
    assert torch.allclose(s.x, torch.tensor([[0.6, 0.4]])), "the first step has no way behind it"


@pytest.mark.parametrize(
    ("history", "best_at_check", "reduced", "halved"),
    [
        ([0, 1, 2, 3, 4], 0.5, False, False),  # every step raised the loss, and the best got better
        ([0, 1, 0, 1, 2], 0.5, False, True),  # three of four: not more than three quarters
        ([4, 3, 2, 1, 0], 0.5, False, True),
        ([0, 1, 2, 3, 4], 1.0, False, True),  # the best did not get better since the last check
        ([0, 1, 2, 3, 4], 1.0, True, False),  # the same, but the step was halved there already
    ],
)
def test_the_step_is_halved_where_progress_stalls_and_the_run_goes_back_to_its_best(history, best_at_check, reduced, halved):
    s = state(
        history=torch.tensor([history], dtype=torch.float32),
        best_at_check=torch.tensor([best_at_check]),
        reduced=torch.tensor([reduced]),
    )
    run()._check(s, 4, 4)
    assert s.step.tolist() == pytest.approx([0.05 if halved else 0.1])
    assert torch.equal(s.x, torch.tensor([[0.7, 0.1]] if halved else [[0.5, 0.5]]))
    assert s.gradient[0, 0] == (9.0 if halved else 2.0)
    assert s.reduced.tolist() == [halved] and s.best_at_check.tolist() == [1.0]


def test_an_l1_step_goes_to_the_largest_coordinates_of_the_gradient():
    gradient = torch.tensor([[0.1, -3.0, 2.0, 0.5], [4.0, 3.0, 2.0, 1.0]])
    assert _sparse(gradient, torch.tensor([0.5, 0.25])).tolist() == [[0, -0.5, 0.5, 0], [1, 0, 0, 0]]


def test_an_l1_step_shrinks_while_coordinates_are_added_and_starts_again_where_they_were_lost():
    s = state(step=torch.tensor([0.4]))  # the best point changes both pixels, as at the last check
    run("l1")._check(s, 4, 4)
    assert s.step.tolist() == pytest.approx([0.4 / L1_SHRINK]) and s.share.tolist() == pytest.approx([1 / 1.5])
    lost = state(step=torch.tensor([0.1]), best=torch.tensor([[0.7, 0.4]]))
    run("l1")._check(lost, 4, 4)
    assert lost.step.tolist() == pytest.approx([0.4]) and torch.equal(lost.x, lost.best)
