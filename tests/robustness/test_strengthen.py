"""Strengthening changes a copy, moves images as said, and makes a small model stronger."""

import pytest
import torch
from sklearn.datasets import load_digits

from reprogram.errors import ConfigError, SourceError
from reprogram.robustness.augment import mixed, shifted
from reprogram.robustness.strengthen import Strengthening, measure
from reprogram.robustness.unfrozen import Unfrozen, learn
from reprogram.sources.black_box import BlackBoxSource
from reprogram.sources.small_cnn import SmallCNN
from reprogram.threat import Threat
from reprogram.training.adversarial import TRADES, FastTraining, GaussianTraining, PGDTraining


def digits():
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    return images, torch.tensor(data.target)


def test_a_small_model_becomes_stronger_and_the_source_stays():
    torch.set_num_threads(1)
    images, labels = digits()
    source = learn(Unfrozen(SmallCNN("plain", 8)), images[:800], labels[:800], 10, 1e-2).frozen()
    before, threat = source.fingerprint(), Threat("linf", 0.1)
    loss = FastTraining(eps=0.1)
    model = Strengthening(epochs=8, rate=1e-2, shift=0).fit(source, loss, images[:800], labels[:800])
    test = images[-100:], labels[-100:]
    weak, strong = (measure(m, *test, threat, "x", steps=10) for m in (Unfrozen(source), model))
    assert source.fingerprint() == before and strong.robust > weak.robust + 0.1
    assert [row.check for row in strong.rows] == ["clean, x", "apgd, x"] and strong.rows[1].kind == "attack"
    assert model.frozen().fingerprint() != before and not any(p.requires_grad for p in model.frozen().parameters())


@pytest.mark.parametrize("make", (PGDTraining, TRADES, GaussianTraining, FastTraining))
def test_every_loss_trains_a_source_in_batches(make):
    images, labels = digits()
    source = SmallCNN("normalised", 8)
    first, second = (Strengthening(epochs=1).fit(source, make(), images[:130], labels[:130]) for _ in range(2))
    assert first.frozen().fingerprint() == second.frozen().fingerprint() != source.fingerprint()


def test_fast_training_is_one_step_of_five_quarters_eps():
    loss = FastTraining(eps=0.2)
    images, labels = digits()
    seen = []

    def model(x):
        seen.append(x)
        return torch.zeros(len(x), 10) + x.mean((1, 2, 3))[:, None] * torch.arange(10.0)

    module = torch.nn.Module()
    module.forward = model
    loss.loss(module, images[:8], labels[:8])
    assert len(seen) == 2 and float((seen[1] - images[:8]).abs().max()) <= 0.2 + 1e-6
    assert loss.step_size == pytest.approx(0.25)


def test_shifted_images_are_shifts_of_the_image():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    found = shifted(image.expand(50, -1, -1, -1), 1, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(image, (1,) * 4, mode="replicate")[0, 0]
    allowed = [padded[i : i + 3, j : j + 3] for i in range(3) for j in range(3)]
    assert all(any(torch.equal(one[0], a) for a in allowed) for one in found) and len(found.unique(dim=0)) > 4
    assert shifted(image, 0, torch.Generator()) is image


def test_mixtures_lie_between_their_images():
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(-1, 1, 4, 4)
    found = mixed(images.repeat(20, 1, 1, 1), torch.Generator().manual_seed(0))
    assert float(found.min()) >= 0 and float(found.max()) <= 1 and 0.01 < float(found.std()) < 0.5


def test_a_source_that_can_only_be_asked_has_no_weights_to_change(tiny_source):
    with pytest.raises(SourceError, match="is a black-box model: its weights cannot be changed here"):
        Unfrozen(BlackBoxSource(tiny_source()))


def test_unknown_architectures_and_small_sizes():
    with pytest.raises(SourceError, match=r"source.architecture=reidual is unknown; did you mean 'residual'"):
        SmallCNN("reidual")
    with pytest.raises(SourceError, match=r"source.size=4 is too small"):
        SmallCNN(size=4)
    with pytest.raises(ConfigError):
        SmallCNN(labels=["one"])
