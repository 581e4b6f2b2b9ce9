"""Models that look robust to plain gradients are not over-rated, and the reason is a flag; odd answers are evened out."""

import copy

import pytest
import torch
from torch import nn

from reprogram import robustness
from reprogram.errors import ConfigError, DataError
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.bpda import straight_through
from reprogram.robustness.attacks.pgd import PGD
from reprogram.threat import Threat

EPS = 0.15
CHOSEN = robustness.settings(
    "quick",
    examples=60,
    threats={"linf": EPS},
    checks={"square": {"attack": {"steps": 5}}, "smallest_perturbation": None},
)


def worst(model, images, labels):
    """Worst-case accuracy and the codes of its flags."""
    result = robustness.evaluate(model, (images, labels), settings=CHOSEN)
    row = next(r for r in result.data["robustness"]["rows"] if r["check"] == "worst_case")
    return row["value"], {flag["code"] for flag in row["flags"]}


@torch.no_grad()
def without_gradients(x):
    return x * 1.0


def sharp(net, x):
    return 1e4 * net(x)


DISGUISES = {
    "large_logits": (sharp, "large_logits"),
    "no_grad": (lambda net, x: net(without_gradients(x)), "hides_gradients"),
    "bytes": (lambda net, x: net((x * 255).to(torch.uint8).float() / 255), "hides_gradients"),
    "rounded answers": (lambda net, x: torch.round(net(x).softmax(1) * 1e4) / 1e4, "hides_gradients"),
    "detached": (lambda net, x: net(x).detach() + 0 * x.sum(), "hides_gradients"),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_changes_the_figure_by_little_and_is_flagged(digit_cnn, name):
    net, images, labels = digit_cnn
    disguise, code = DISGUISES[name]
    plain, flags = worst(net, images, labels)
    assert plain < 0.5 and code not in flags
    found, flags = worst(lambda x: disguise(net, x), images, labels)
    assert abs(found - plain) <= 0.05 and code in flags


def test_a_threshold_lets_a_useful_gradient_through(digit_cnn):
    net, images, labels = digit_cnn

    def planes(x):  # thermometer code, read as a mean of planes
        return net(torch.stack([(x > t / 8).float() for t in range(8)]).mean(0))

    found = PGD(Threat("linf", EPS), steps=20)(straight_through(planes), images[:60], labels[:60])
    assert found.accuracy < 0.5
    assert torch.equal(straight_through(planes)(images[:5]), planes(images[:5]))


class Flips(nn.Module):
    """Answers rightly with a probability that the seed does not fix."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wrong = torch.rand(len(x)) > self.share
        return torch.stack([1 - wrong.float(), wrong.float()], 1) * 3 + 0 * x.flatten(1).sum(1, keepdim=True)


def test_a_model_that_answers_at_random_is_judged_by_the_mean_of_its_passes():
    torch.manual_seed(0)
    images, labels = torch.rand(60, 1, 8, 8), torch.zeros(60, dtype=torch.long)
    found, flags = worst(Flips(0.8), images, labels)
    assert "random" in flags
    assert 0.6 < found <= 0.8, "one lucky wrong answer is no success; the least of several means is a little below .8"


def test_single_attacks_put_a_model_in_eval_mode_and_leave_it_as_it_was(digit_cnn):
    net, images, labels = digit_cnn
    loose = nn.Sequential(nn.Dropout(0.9), copy.deepcopy(net)).train()
    fixed = copy.deepcopy(loose).eval()
    attack = APGD(Threat("linf", 0.05), steps=5)
    assert torch.equal(
        attack(loose, images[:20], labels[:20]).survival, attack(fixed, images[:20], labels[:20]).survival
    )
    assert loose.training and loose[0].training and not fixed.training


def in_place(net):
    def answer(x):
        return net(x.mul_(1.0).add_(0.0).clamp_(0.0, 1.0))

    return answer


SAME = {
    "tuple": lambda net: lambda x: (net(x), x),
    "dict": lambda net: lambda x: {"features": x, "logits": net(x)},
    "double": lambda net: copy.deepcopy(net).double(),
    "in place": in_place,
}


@pytest.mark.parametrize("name", SAME)
def test_odd_answers_are_evaluated_like_plain_ones(digit_cnn, name):
    net, images, labels = digit_cnn
    before = images.clone()
    plain, _ = worst(net, images, labels)
    found, _ = worst(SAME[name](net), images, labels)
    assert abs(found - plain) <= 0.05 and torch.equal(images, before)


def test_what_cannot_be_evaluated_is_one_sentence(digit_cnn):
    net, images, labels = digit_cnn
    with pytest.raises(ConfigError, match=r"failed on images \[60, 1, 8, 8\].*\[N, H, W, C\]"):
        worst(lambda x: net(x.permute(0, 3, 1, 2)), images, labels)
    with pytest.raises(ConfigError, match="answers str"):
        worst(lambda x: "seven", images, labels)
    with pytest.raises(DataError, match="60 images but 10 labels"):
        worst(net, images, labels[:10])
