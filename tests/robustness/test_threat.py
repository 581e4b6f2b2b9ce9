import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
