import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import nn

from reprogram.errors import ConfigError
from reprogram.robustness.higher_order import lower, phi, radius, slab, slab_ends
from reprogram.robustness.smoothing import ABSTAIN, Gradient, Smoothing, lower_bound


@pytest.mark.parametrize(("p", "most", "none"), [(0.6, 0.2533471031, 0.6805435250), (0.8, 0.8416212336, 1.2680340312)])
def test_golden_radii_of_the_closed_forms(p, most, none):
    assert radius(p, phi(norm.ppf(p))) == pytest.approx(most, abs=1e-6)
    assert radius(p, 0.0) == pytest.approx(none, abs=1e-6)
    assert radius(p, phi(norm.ppf(p))) == pytest.approx(norm.ppf(p), abs=1e-6)
    half = norm.ppf((1 + p) / 2)
    assert slab(p, 0.0, none) == pytest.approx(norm.cdf(half - none) - norm.cdf(-half - none), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(p=st.floats(0.51, 0.995), share=st.floats(0.01, 0.99))
def test_the_slab_has_the_mass_and_moment_asked_for(p, share):
    m1 = share * phi(norm.ppf(p))
    low, high = slab_ends(p, m1)
    assert norm.cdf(high) - norm.cdf(low) == pytest.approx(p, abs=1e-9)
    assert phi(high) - phi(low) == pytest.approx(m1, abs=1e-9)


@pytest.mark.parametrize("angle", [0.3, 0.7, 1.2])
def test_a_half_space_at_an_angle_reaches_its_closed_form(angle):
    """The published three-equation system is singular here and was off by 1e-3; the dual is not."""
    p = 0.9
    most = phi(norm.ppf(p))
    exact = norm.cdf(norm.ppf(p) - math.cos(angle))
    found = lower(p, most * math.cos(angle), most * math.sin(angle), 1.0)
    assert found == pytest.approx(exact, abs=3e-6) and found <= exact
    assert radius(p, most * math.cos(angle), most * math.sin(angle)) == pytest.approx(norm.ppf(p) / math.cos(angle))


@settings(max_examples=15, deadline=None)
@given(
    p=st.floats(0.55, 0.99), length=st.floats(0.1, 0.95), angle=st.floats(0.2, 1.4), r=st.floats(0.2, 2.0),
    ends=st.tuples(st.floats(-3, 3), st.floats(-3, 3)), tilt=st.floats(0, 3),
)  # fmt: skip
def test_the_bound_never_exceeds_a_real_function_with_these_moments(p, length, angle, r, ends, tilt):
    """Slabs, tilted in the plane: value, gradient and shifted value are known, so the bound must lie below."""
    low, high = min(ends), max(ends) + 0.5
    mass = norm.cdf(high) - norm.cdf(low)
    moment = phi(low) - phi(high)
    if mass <= 0.5:
        return
    along, across = moment * math.cos(tilt), abs(moment * math.sin(tilt))
    shifted = norm.cdf(high - r * math.cos(tilt)) - norm.cdf(low - r * math.cos(tilt))
    if along <= 0:
        assert lower(mass, -along, across, r) <= shifted + 1e-9


def test_more_gradient_against_the_shift_lowers_the_bound_at_one_length():
    for p in (0.6, 0.9):
        whole = 0.8 * phi(norm.ppf(p))
        values = [lower(p, whole * math.cos(t), whole * math.sin(t), 1.0) for t in np.linspace(0.1, 1.5, 8)]
        assert (np.diff(values) > -1e-6).all()


def test_first_order_is_never_below_cohen_at_the_same_probability():
    for p in (0.6, 0.9, 0.99):
        most = phi(norm.ppf(p))
        for share in (0.0, 0.5, 0.99):
            assert radius(p, share * most, 0.0) >= norm.ppf(p) - 1e-9
    assert radius(0.5, 0.1) == 0 and radius(0.2, 0.1) == 0


class Half(nn.Module):
    """Two classes split by a plane: smoothing's exact radius is the distance to it."""

    def __init__(self, size: int, offset: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(size, generator=generator)
        self.direction, self.offset = direction / direction.norm(), offset

    def forward(self, x):
        value = x.flatten(1) @ self.direction - self.offset
        return torch.stack([value, -value], 1)


def test_certificates_of_a_half_space_stay_below_its_exact_radius_and_close():
    image = torch.full((1, 4, 4), 0.5)
    model = Half(16, float(image.flatten() @ Half(16, 0.0).direction) - 0.3)
    found = Smoothing(sigma=0.25, samples=20_000).certify(model, image)
    assert found.label == 0
    assert 0.27 < found.cohen <= 0.3
    assert found.first_order["l2"] <= 0.3 + 1e-9
    exact_l1 = 0.3 / float(model.direction.abs().max())
    exact_linf = 0.3 / float(model.direction.abs().sum())
    assert found.cohen <= found.first_order["l1"] * 1.03 and found.first_order["l1"] <= exact_l1
    assert found.first_order["linf"] <= exact_linf
    assert found.first_order["l1"] > found.radius("l1", 16) * 1.1, "the gradient helps in l1"


def test_certified_accuracy_is_sound_over_many_draws():
    """At confidence 0.9 at most about a tenth of the certificates may exceed the exact radius."""
    image = torch.full((1, 3, 3), 0.5)
    model = Half(9, float(image.flatten() @ Half(9, 0.0).direction) - 0.2)
    too_far = 0
    for seed in range(100):
        found = Smoothing(sigma=0.25, samples=400, alpha=0.1, seed=seed, first_order=False).certify(model, image)
        too_far += found.cohen > 0.2
    assert too_far <= 18


def test_abstains_when_classes_cannot_be_told_apart():
    image = torch.full((1, 4, 4), 0.5)
    on_the_plane = Half(16, float(image.flatten() @ Half(16, 0.0).direction))
    found = Smoothing(samples=500).certify(on_the_plane, image)
    assert found.label == ABSTAIN and found.cohen == 0 and not found.first_order
    assert Smoothing(samples=500).predict(on_the_plane, image) == ABSTAIN
    clear = Half(16, float(image.flatten() @ Half(16, 0.0).direction) - 5.0)
    assert Smoothing(samples=500).predict(clear, image) == 0


def test_subspace_radius_is_the_distance_inside_the_subspace():
    image = torch.full((1, 4, 4), 0.5)
    model = Half(16, float(image.flatten() @ Half(16, 0.0).direction) - 0.2)
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    found = Smoothing(sigma=0.25, samples=40_000).certify(model, image, subspaces={"upper half": mask})
    exact = 0.2 / float(model.direction[:8].norm())
    assert found.cohen < found.first_order["upper half"] <= exact


def test_gradient_bounds_hold_the_true_gradient():
    """For a half space s = phi(distance / sigma) times its normal; bounds at 1e-3 must hold in 30 draws of 30."""
    direction = Half(12, 0.0).direction
    true = phi(1.0) * direction
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        noise = torch.randn(4000, 12, generator=generator)
        value = ((noise @ direction) > -1.0).float() - 0.5
        halves = [(value[i::2, None] * noise[i::2]).mean(0) for i in (0, 1)]
        bounds = Gradient(*halves, 4000, 1e-3)
        low, high = bounds.l2(1e-3)
        assert low <= float(true.norm()) <= high
        assert float(true.abs().max()) <= bounds.largest(1e-3)
        assert float(true.abs().sum()) / math.sqrt(12) <= bounds.mean(1e-3)


def test_clopper_pearson_and_bad_options():
    assert lower_bound(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000))
    assert lower_bound(0, 10, 0.1) == 0
    with pytest.raises(ConfigError, match="sigma"):
        Smoothing(sigma=0)
    with pytest.raises(ConfigError, match="alpha"):
        Smoothing(alpha=1.0)
