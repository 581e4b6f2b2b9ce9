import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from reprogram.errors import ConfigError
from reprogram.threat import Threat

SIZES = {"linf": 0.3, "l2": 1.2, "l1": 3.0}


@settings(max_examples=25, deadline=None)
@given(norm=st.sampled_from(sorted(SIZES)), seed=st.integers(0, 1000), reach=st.floats(0.01, 5))
def test_projection_stays_inside_ball_and_range_and_keeps_allowed_points(norm, seed, reach):
    generator = torch.Generator().manual_seed(seed)
    threat = Threat(norm, SIZES[norm])
    x0 = torch.rand(3, 2, 4, 4, generator=generator)
    x = threat.project(x0, x0 + reach * torch.randn(x0.shape, generator=generator))
    assert threat.distance(x0, x).max() <= threat.eps * (1 + 1e-5)
    assert x.min() >= 0 and x.max() <= 1
    again = threat.project(x0, x)
    assert torch.allclose(again, x, atol=1e-4)
    assert threat.distance(x0, threat.random(x0, generator)).max() <= threat.eps * (1 + 1e-5)


def test_l1_projection_is_the_nearest_point_of_ball_and_box():
    """Against a fine search over the soft threshold's only parameter, on a problem where the box is active."""
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(4, 30, generator=generator)
    wanted = x0 + torch.randn(x0.shape, generator=generator)
    threat = Threat("l1", 2.0)
    found = threat.project(x0, wanted)
    best = (found - wanted).square().sum(1)
    for _ in range(300):
        other = threat.random(x0, generator)
        mixed = found + torch.rand(1, generator=generator) * (other - found)
        assert ((mixed - wanted).square().sum(1) >= best - 1e-4).all()
    assert torch.allclose((found - x0).abs().sum(1), torch.full((4,), 2.0), atol=1e-3)


@pytest.mark.parametrize("norm", sorted(SIZES))
def test_steepest_step_has_unit_length_and_climbs(norm):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, 1, 10, 10, generator=generator) * 0.8 + 0.1
    gradient = torch.randn(x.shape, generator=generator)
    threat = Threat(norm, 1.0)
    step = threat.steepest(x, gradient)
    assert torch.allclose(threat.distance(torch.zeros_like(step), step), torch.ones(5), atol=1e-5)
    assert ((step * gradient).flatten(1).sum(1) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"eps": 8}, "did you mean 8/255"),
        ({"eps": 0}, "must be a positive number"),
        ({"eps": float("nan")}, "must be a positive number"),
        ({"norm": "l3"}, "l3"),
        ({"low": 1.0, "high": 0.0}, "must grow"),
    ],
)
def test_impossible_threats_are_refused_in_one_sentence(arguments, said):
    with pytest.raises(ConfigError, match=said):
        Threat(**arguments)


def test_an_l1_step_is_not_spent_on_pixels_that_are_at_their_end():
    """The steepest coordinate cannot move further out, so the step goes to the next one that can."""
    x = torch.tensor([[0.0, 1.0, 0.5, 0.0, 1.0]])
    gradient = torch.tensor([[-9.0, 8.0, 3.0, 2.0, -1.0]])
    assert Threat("l1", 1.0).steepest(x, gradient).tolist() == [[0, 0, 1, 0, 0]]
    x[0, 2] = 1.0
    assert Threat("l1", 1.0).steepest(x, gradient).tolist() == [[0, 0, 0, 1, 0]], "inward from an end is allowed"
    outward = Threat("l1", 1.0).steepest(torch.tensor([[0.0, 1.0]]), torch.tensor([[-1.0, 1.0]]))
    assert outward.tolist() == [[0, 0]], "nowhere to go"


def test_l1_projection_is_the_solution_of_the_quadratic_program():
    """Against an independent solver (SLSQP on d = up - down), box and ball both active."""
    from scipy.optimize import minimize

    rng, exactly = np.random.default_rng(0), {"maxiter": 500, "ftol": 1e-12}
    for _ in range(5):
        x0, wanted = rng.random(6), rng.random(6) * 3 - 1
        low, high = -x0, 1 - x0

        def far(z, goal=wanted - x0):
            return ((z[:6] - z[6:] - goal) ** 2).sum()

        limits = [
            {"type": "ineq", "fun": lambda z: 0.8 - z.sum()},
            {"type": "ineq", "fun": lambda z, high=high: high - (z[:6] - z[6:])},
            {"type": "ineq", "fun": lambda z, low=low: (z[:6] - z[6:]) - low},
        ]
        solved = minimize(far, np.zeros(12), bounds=[(0, None)] * 12, constraints=limits, options=exactly).x
        tensors = torch.tensor(x0)[None], torch.tensor(wanted)[None]
        found = Threat("l1", 0.8).project(*tensors)[0].numpy() - x0
        assert np.allclose(found, solved[:6] - solved[6:], atol=1e-4)


@pytest.mark.parametrize("norm", sorted(SIZES))
def test_random_points_are_spread_over_the_ball_as_they_say(norm):
    """Uniform by volume in linf and l2; in l1 every radius is as likely."""
    x0 = torch.full((4000, 1, 2, 2), 50.0)
    threat = Threat(norm, 0.9, low=0.0, high=100.0)
    points = threat.random(x0, torch.Generator().manual_seed(0))
    shares = (threat.distance(x0, points) / 0.9).double().numpy() ** (1 if norm == "l1" else 4)
    assert kstest(shares, "uniform").pvalue > 1e-3
