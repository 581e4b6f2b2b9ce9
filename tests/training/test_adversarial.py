import pytest
import torch
from torch import nn

from reprogram.errors import ConfigError
from reprogram.robustness.attacks.pgd import PGD
from reprogram.threat import Threat
from reprogram.training.adversarial import NAMED, TRADES, GaussianTraining, PGDTraining, named
from reprogram.training.loop import Training


def two_features(n=400, seed=0):
    """A robust but noisy pixel and many weak ones that a plain model leans on and a small perturbation flips."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    sign = (2 * labels - 1).float()
    images = 0.5 + 0.02 * torch.randn(n, 1, 4, 4, generator=generator) + 0.02 * sign.view(-1, 1, 1, 1)
    flipped = torch.where(torch.rand(n, generator=generator) < 0.1, -sign, sign)
    images[:, 0, 0, 0] = 0.5 + 0.1 * flipped
    return images.clamp(0, 1), labels


class Centred(nn.Module):
    def forward(self, x):
        return 20 * (x.flatten(1) - 0.5)


def trained(loss):
    torch.manual_seed(0)
    model = nn.Sequential(Centred(), nn.Linear(16, 2))
    optimiser = torch.optim.Adam(model.parameters(), 0.2)
    images, labels = two_features()
    for _ in range(15):
        for rows in torch.arange(len(images)).split(100):
            optimiser.zero_grad()
            loss(model, images[rows], labels[rows]).backward()
            optimiser.step()
    return model.eval()


def robust(model):
    images, labels = two_features(seed=1)
    return PGD(Threat("linf", 0.05), steps=20)(model, images, labels).accuracy


def test_strengthening_makes_a_model_more_robust_than_plain_training():
    plain = robust(trained(lambda model, x, y: nn.functional.cross_entropy(model(x), y)))
    assert plain < 0.7
    assert robust(trained(PGDTraining(eps=0.05, steps=5))) > plain + 0.1
    assert robust(trained(TRADES(eps=0.05, steps=5))) > plain + 0.1


@pytest.mark.parametrize("loss", [PGDTraining(steps=3), TRADES(steps=3), GaussianTraining(draws=2)], ids=str)
def test_losses_repeat_and_leave_modes_and_gradients_as_they_were(loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.0), nn.Linear(16, 2)).train()
    images, labels = two_features(20)
    first = loss(model, images, labels)
    assert torch.equal(first, loss(model, images, labels)), "a resumed run draws the same numbers"
    assert model.training and all(p.requires_grad for p in model.parameters())
    first.backward()
    assert model[2].weight.grad.abs().sum() > 0


def test_pgd_training_loss_is_at_least_the_clean_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    images, labels = two_features(50)
    clean = nn.functional.cross_entropy(model(images), labels)
    assert PGDTraining(eps=0.05)(model, images, labels) > clean
    assert float(GaussianTraining(sigma=1e-9)(model, images, labels)) == pytest.approx(float(clean), abs=1e-5)
    assert abs(float(GaussianTraining(sigma=0.5)(model, images, labels)) - float(clean)) > 1e-4
    mixed = PGDTraining(eps=0.05, clean=1.0)(model, images, labels)
    assert float(mixed) == pytest.approx(float(clean))


def test_names_and_impossible_targets():
    assert Training(adversarial="pgd").adversarial == NAMED["pgd"]()
    assert Training(adversarial="none").adversarial is None and Training(adversarial={}).adversarial is None
    with pytest.raises(ConfigError, match="did you mean 'trades'"):
        named("trade")
    with pytest.raises(ConfigError, match="images"):
        PGDTraining()(nn.Identity(), ["a string"], torch.zeros(1).long())
    with pytest.raises(ConfigError, match="classification"):
        PGDTraining()(nn.Identity(), torch.rand(1, 1, 2, 2), torch.zeros(1))
