"""What cannot be attacked, certified or estimated is refused in one sentence, and never answered with a number."""

import numpy as np
import pytest
import torch
from torch import nn

from reprogram import robustness
from reprogram.errors import ConfigError, DataError
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.attacks.square import Square
from reprogram.robustness.certification.linear_bounds.bounds import Ball, Bounds
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.certification.linear_bounds.trace import record
from reprogram.robustness.certification.randomized_smoothing import Smoothing
from reprogram.robustness.corruptions import CORRUPTIONS, corrupt
from reprogram.robustness.estimates.clever import CleverScore
from reprogram.threat import Threat


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()


@pytest.fixture
def images():
    return torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("attack", [PGD(Threat("l2", 0.5)), Square(Threat("linf", 0.1), steps=5)])
def test_pixels_outside_the_range_are_no_robust_examples(attack, net, images):
    """Normalised images cannot be perturbed inside [0, 1], and once counted as robust."""
    labels = net(5 * images).argmax(1)
    with pytest.raises(DataError, match=r"Pixels must lie in \[0, 1\].*inside the model"):
        attack(net, 5 * images, labels)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.tensor([0, 1]), "4 images but 2 labels"),
        (torch.tensor([0, 1, 2, 3]), "from 0 to 3, but the model has 3 classes"),
        (torch.tensor([0, 1, 2, -1]), "from -1 to 2"),
        (torch.zeros(4), "one class index an example"),
    ],
)
def test_labels_that_do_not_belong_to_the_images(labels, said, net, images):
    for check in (PGD(Threat("l2", 0.5)), CleverScore(batches=1, samples=1)):
        with pytest.raises(DataError, match=said):
            check(net, images, labels)


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch_size": 0}, {"restarts": 0}])
def test_attacks_with_impossible_options(options, net, images):
    with pytest.raises(ConfigError, match="=0 of PGD must be at least 1"):
        PGD(Threat("l2", 0.5), **options)(net, images, net(images).argmax(1))


@pytest.mark.parametrize("options", [{"draws": 0}, {"samples": 0}, {"samples": 2.5}, {"batch_size": -1}])
def test_smoothing_with_impossible_options(options):
    with pytest.raises(ConfigError, match="of randomized smoothing must be a whole number of at least 1"):
        Smoothing(**options)


@pytest.mark.parametrize(
    "options",
    [{"norm": "l3"}, {"radius": -1.0}, {"batches": 0}, {"targets": 0}, {"targets": "few"}, {"pool": -1}],
)
def test_clever_with_impossible_options(options):
    with pytest.raises(ConfigError, match="CLEVER"):
        CleverScore(**options)


def test_one_class_cannot_be_certified(images):
    one = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    for check in (
        lambda: Smoothing(samples=10).certify(one, images[0]),
        lambda: Smoothing(samples=10).predict(one, images[0]),
        lambda: CleverScore(batches=1, samples=1)(one, images, torch.zeros(4, dtype=torch.long)),
        lambda: LinearBounds().radius(one, images[0], 0, "l2", 0.1),
    ):
        with pytest.raises(ConfigError, match="at least two classes"):
            check()


def test_clever_needs_a_gradient(net, images):
    with pytest.raises(ConfigError, match="CLEVER needs gradients"):
        CleverScore(batches=1, samples=1)(lambda x: net(x.detach()), images, net(images).argmax(1))


def test_a_radius_far_beyond_all_inputs_hides_no_certificate(net, images):
    """The smallest size that is tried was a share of the largest, which here is far beyond any image."""
    label = int(net(images[:1]).argmax())
    near = LinearBounds(steps=30).radius(net, images[0], label, "l2", 4.0)
    assert near > 0
    assert LinearBounds(steps=30).radius(net, images[0], label, "l2", 1e9) == pytest.approx(near, rel=0.01)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_every_corruption_takes_any_number_of_channels(channels):
    images = torch.rand(1, channels, 5, 7)
    assert all(corrupt(name, images, 3).shape == images.shape for name in CORRUPTIONS)


def test_corruptions_that_do_not_exist(images):
    for name, severity, said in (("frost", 1, "no corruption 'frost'"), ("fog", 6, "severity=6")):
        with pytest.raises(ConfigError, match=said):
            corrupt(name, images, severity)


@pytest.mark.parametrize("data", ["abc", [1, 2], (np.zeros((1, 1, 4, 4)), ["a"]), [(1, 2, 3)]])
def test_data_that_is_none(data, net):
    with pytest.raises(DataError, match="data must be"):
        robustness.evaluate(net, data)


def test_the_threat_that_is_too_large_is_named(net):
    with pytest.raises(ConfigError, match=r"robustness\.threats\.l1=12 is outside"):
        robustness.evaluate(net, (torch.rand(1, 1, 2, 2), torch.tensor([0])), "full")


def test_bounds_are_not_called_loose_where_every_label_is_wrong(net, images):
    labels = (net(images).argmax(1) + 1) % 3
    keep = {name: None for name in robustness.settings("full").checks if name != "linear_bounds"}
    result = robustness.evaluate(net, (images, labels), settings=robustness.settings("full", checks=keep, threats={"l2": 0.1}))
    (row,) = [row for row in result.data["robustness"]["rows"] if row["check"] == "linear_bounds"]
    assert row["value"] == 0
    assert not row["flags"]


def test_slopes_are_optimised_wherever_gradients_are_on():
    """Intervals once kept the graph of the model's own weights, and the second step failed."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Hardtanh(-0.2, 0.4), nn.Linear(6, 3)).eval()
    image = torch.rand(1, 1, 2, 2, dtype=torch.float64)
    bounds = Bounds(record(net, image[0].float()), Ball(image, 0.3), slopes=3)
    assert (bounds.optimised(torch.eye(3), 3) <= net.double()(image)[0] + 1e-9).all()
