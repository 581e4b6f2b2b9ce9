"""The nearest wrong answer: closed forms on linear models, and nearer than attacks at given sizes on others."""

import pytest
import torch
from torch import nn

from reprogram.robustness.attacks.minimum_norm import MinimumNorm
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.smallest import Smallest, smallest
from reprogram.threat import Threat, box_projection, length

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


@pytest.mark.parametrize("norm", DUAL)
def test_the_distance_to_a_linear_boundary_is_the_closed_form(norm):
    """|margin| / dual norm of the weights, far from the ends of the pixel range."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 12, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).requires_grad_(False)
    model[1].weight.copy_(weight)
    model[1].bias.copy_(-weight.sum(1) / 2)
    images = 0.5 + 0.05 * torch.randn(6, 1, 3, 4, generator=generator)
    logits = model(images)
    labels, gap = logits.argmax(1), (logits[:, 0] - logits[:, 1]).abs()
    exact = gap / length((weight[0] - weight[1])[None], DUAL[norm])
    found = MinimumNorm(Threat(norm, 0.4 if norm == "linf" else 5.0), steps=60)(model, images, labels)
    assert found.broken.all()
    far = length((found.examples - images).flatten(1), norm)
    assert (far >= exact * 0.999).all() and (far <= exact * 1.03 + 1e-4).all()


@pytest.mark.parametrize("norm", DUAL)
def test_nearer_than_pgd_at_sizes_with_as_many_gradients(norm, digit_cnn):
    model, images, labels = digit_cnn
    images, labels = images[:24], labels[:24]
    sizes = {"linf": (0.1, 0.2, 0.4), "l2": (0.5, 1.0, 2.0), "l1": (1.0, 3.0, 9.0)}[norm]
    ladder, _ = smallest(model, images, labels, norm, sizes, lambda threat: PGD(threat, steps=20))
    largest = Threat(norm, 1.0 if norm == "linf" else 60.0)
    found = MinimumNorm(largest, steps=60)(model, images, labels)
    own = Smallest.empty(norm, images)
    own.update(images, found.examples, found.broken)
    own.tighten(model, images, labels)
    assert own.distances.isfinite().all()
    assert own.distances.median() <= ladder.distances.median() and (own.distances <= 1.1 * ladder.distances).float().mean() > 0.9


def test_pixels_at_the_end_of_their_range_do_not_foresee_the_boundary():
    """Nine of ten weights would darken black pixels: the distance is that along the tenth."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(10, 2)).requires_grad_(False)
    model[1].weight.copy_(torch.stack([torch.zeros(10), torch.cat([torch.ones(1), -torch.ones(9)])]))
    model[1].bias.copy_(torch.tensor([0.5, 0.0]))
    found = MinimumNorm(Threat("l2", 3.0), steps=40)(model, torch.zeros(1, 1, 1, 10), torch.tensor([0]))
    assert float(length(found.examples.flatten(1), "l2")) == pytest.approx(0.5, rel=0.03)


def test_random_models_are_wrong_in_most_fresh_passes(digit_cnn):
    """Noise in front: what is found outlives forty passes that the search has not seen."""
    model, images, labels = digit_cnn
    torch.manual_seed(0)

    def noisy(x):
        return model((x + 0.1 * torch.randn_like(x)).clamp(0, 1))

    attack = MinimumNorm(Threat("l2", 8.0), steps=30, draws=2, passes=10)
    found = attack(noisy, images[:12], labels[:12])
    right = torch.stack([noisy(found.examples).argmax(1) == labels[:12] for _ in range(40)]).float().mean(0)
    assert (right <= 0.5).float().mean() >= 0.8 and found.broken.float().mean() >= 0.8


@pytest.mark.parametrize("norm", DUAL)
def test_a_radius_for_each_example_is_that_of_the_threat(norm):
    generator = torch.Generator().manual_seed(1)
    x0, x = torch.rand(4, 1, 3, 3, generator=generator), 2 * torch.rand(4, 1, 3, 3, generator=generator) - 0.5
    radius = torch.tensor([0.05, 0.2, 0.6, 0.9]).view(-1, 1, 1, 1)
    together = box_projection(Threat(norm), x0, x, radius)
    for i in range(4):
        alone = Threat(norm, float(radius[i])).project(x0[i : i + 1], x[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-5)
