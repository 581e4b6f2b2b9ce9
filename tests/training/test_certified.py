"""Training for certificates: the intervals hold, and what is trained can be certified."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprogram.errors import ConfigError
from reprogram.robustness.strengthen import Strengthening, measure, prove
from reprogram.robustness.unfrozen import Unfrozen
from reprogram.sources.small_cnn import ARCHITECTURES, SmallCNN
from reprogram.targets.digits import digits
from reprogram.threat import Threat
from reprogram.training.adversarial import CertifiedTraining, worst
from reprogram.training.intervals import Interval


def box(images, eps):
    return Interval.between((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_no_point_of_the_box_leaves_its_interval(architecture):
    model = Unfrozen(SmallCNN(architecture, size=12, seed=3)).double()
    torch.manual_seed(0)
    images = torch.rand(6, 1, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        found = model(box(images, 0.05))
        seen = torch.zeros_like(found.low)
        for _ in range(200):
            corner = (images + 0.05 * (2 * torch.randint(0, 2, images.shape) - 1)).clamp(0, 1)
            answer = model(corner)
            assert bool((answer >= found.low - 1e-9).all() and (answer <= found.high + 1e-9).all())
            seen = torch.maximum(seen, (answer - found.low) / (found.high - found.low))
    assert float(found.radius.min()) > 0 and float(seen.max()) > 0.5


def test_one_layer_is_bounded_exactly():
    """|W| r around W m + b, and the signs of W's row reach it."""
    torch.manual_seed(1)
    layer = nn.Linear(5, 3)
    with torch.no_grad():
        found = layer(Interval.between(-torch.ones(1, 5), 2 * torch.ones(1, 5)))
        for row in range(3):
            highest = layer(0.5 + 1.5 * layer.weight[row].sign()[None])[0, row]
            assert float(found.high[0, row]) == pytest.approx(float(highest), abs=1e-6)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), lambda x: F.pad(x, (1, 2, 0, 1), value=0.7),
        lambda x: 1 - x, lambda x: x / -2, lambda x: torch.cat([x, 3 * x - 1], 1), lambda x: (x - 0.3).tanh() + x.sigmoid(),
        lambda x: torch.stack([x, 2 * x]).mean(0), lambda x: x @ torch.tensor([[1.0], [-2], [3], [-1]]),
        lambda x: F.interpolate(x, size=6, mode="bilinear"),
    ],
)  # fmt: skip
def test_operations_of_networks(operation):
    torch.manual_seed(2)
    images = torch.rand(2, 2, 4, 4)
    found = operation(box(images, 0.1))
    for _ in range(100):
        value = operation((images + 0.1 * (2 * torch.rand(images.shape) - 1)).clamp(0, 1))
        assert bool((value >= found.low - 1e-6).all() and (value <= found.high + 1e-6).all())


def test_what_has_no_rule_is_named():
    for operation, name in ((lambda x: x.softmax(1), "softmax"), (lambda x: x * x, "product of two values")):
        with pytest.raises(ConfigError, match=name):
            operation(box(torch.rand(1, 1, 2, 2), 0.1))
    with pytest.raises(ConfigError, match="norm=linf alone"):
        CertifiedTraining(norm="l2").loss(nn.Flatten(), torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.long))


def test_certified_training_gives_proofs_that_plain_training_does_not():
    """Checked by the linear bounds that the report states, which are tighter than the intervals of the training."""
    torch.set_num_threads(1)
    target = digits(shots=25, seed=5)
    images, labels = target.train.batch(range(len(target.train))), torch.as_tensor(target.train.labels)
    tested, answers = target.test.batch(range(20)), torch.as_tensor(target.test.labels)[:20]
    source, threat = SmallCNN("plain", size=8, seed=5), Threat("linf", 0.1)
    found = {}
    for name, eps in (("certified", 0.1), ("plain", 1e-9)):
        model = Strengthening(epochs=25, shift=0).fit(source, CertifiedTraining(eps=eps), images, labels, 5)
        found[name] = measure(model, tested, answers, threat, name, steps=5)
        prove(found[name], model, tested, answers, threat, name)
    proven, attacked = found["certified"].certified, found["certified"].robust
    assert proven > found["plain"].certified + 0.15
    assert proven <= attacked + 1e-9 and found["plain"].certified <= found["plain"].robust + 1e-9
    assert [row.kind for row in found["plain"].rows] == ["estimate", "attack", "certificate"]


def test_the_worst_answer_of_a_box():
    found = Interval.between(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 3.0, 2.5]]))
    assert worst(found, torch.tensor([1])).tolist() == [[1.0, 1.0, 2.5]]
