import itertools

import pytest
import torch
from torch import nn

from reprogram.errors import ConfigError
from reprogram.robustness.attacks.apgd import APGD
from reprogram.robustness.attacks.base import cached
from reprogram.robustness.attacks.bpda import stand_in, straight_through
from reprogram.robustness.attacks.ensemble import AttackEnsemble, standard
from reprogram.robustness.attacks.fgsm import FGSM
from reprogram.robustness.attacks.hopskipjump import HopSkipJump
from reprogram.robustness.attacks.noise import Noise
from reprogram.robustness.attacks.pgd import PGD
from reprogram.robustness.attacks.square import Square
from reprogram.robustness.attacks.transfer import Transfer
from reprogram.robustness.attacks.universal import Universal
from reprogram.robustness.losses import dlr, margin, targeted, wrong
from reprogram.threat import Threat

EPS = {"linf": 0.12, "l2": 0.8, "l1": 3.0}
ATTACKS = {
    "noise": lambda threat: Noise(threat, draws=3),
    "fgsm": FGSM,
    "pgd": lambda threat: PGD(threat, steps=10, restarts=2),
    "apgd_ce": lambda threat: APGD(threat, steps=15),
    "apgd_dlr": lambda threat: APGD(threat, steps=15, loss="dlr"),
    "apgd_targeted": lambda threat: APGD(threat, steps=10, loss="targeted", targets=3),
    "square": lambda threat: Square(threat, steps=40),
    "hopskipjump": lambda threat: HopSkipJump(threat, steps=3, directions=20),
    "universal": lambda threat: Universal(threat, epochs=3),
    "transfer": lambda threat: Transfer(threat, surrogate=SURROGATE, steps=5),
}
torch.manual_seed(5)
SURROGATE = nn.Sequential(nn.Flatten(), nn.Linear(64, 20)).requires_grad_(False)
CASES = [(name, norm) for name, norm in itertools.product(ATTACKS, EPS) if (name, norm) != ("hopskipjump", "l1")]


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_every_attack_stays_in_its_threat_and_only_counts_what_is_really_broken(name, norm, digit_cnn):
    model, images, labels = digit_cnn
    threat = Threat(norm, EPS[norm])
    found = ATTACKS[name](threat)(model, images[:40], labels[:40])
    assert threat.distance(images[:40], found.examples).max() <= threat.eps * (1 + 1e-4)
    assert found.examples.min() >= 0 and found.examples.max() <= 1
    assert torch.equal(found.broken, wrong(model(found.examples), labels[:40]))
    clean_wrong = wrong(model(images[:40]), labels[:40])
    assert found.broken[clean_wrong].all(), "an example that is wrong as it is counts as broken"
    again = ATTACKS[name](threat)(model, images[:40], labels[:40])
    assert torch.equal(found.broken, again.broken) and torch.equal(found.examples, again.examples)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("norm", sorted(EPS))
def test_few_classes_have_margin_fallbacks_as_strong_as_cross_entropy(classes, norm, digit_cnns):
    """autoattack's DLR does not exist for two classes, nor its targeted form for three."""
    model, images, labels = digit_cnns[classes]
    threat = Threat(norm, 2.5 * EPS[norm])
    reference = APGD(threat, steps=20)(model, images, labels)
    assert reference.accuracy < 0.9
    for loss in ("dlr", "targeted", "margin"):
        found = APGD(threat, steps=20, loss=loss)(model, images, labels)
        assert found.accuracy <= reference.accuracy + 0.05, loss
        assert torch.isfinite(found.examples).all()


def test_losses_agree_with_their_definitions():
    logits = torch.tensor([[2.0, 1.0, 0.5, -1.0], [0.0, 3.0, 1.0, 2.0]])
    labels = torch.tensor([0, 0])
    assert torch.allclose(margin(logits, labels), torch.tensor([-1.0, 3.0]))
    assert torch.allclose(dlr(logits, labels), torch.tensor([-1 / 1.5, 3 / 2]))
    wanted = targeted(torch.tensor([1, 2]))(logits, labels)
    assert torch.allclose(wanted, torch.tensor([-1 / (2 - (0.5 - 1) / 2), 1 / (3 - (1 + 0) / 2)]))
    assert torch.allclose(dlr(logits[:, :2], labels), margin(logits[:, :2], labels))


@pytest.mark.parametrize("norm", sorted(EPS))
def test_pgd_finds_the_exact_boundary_of_a_linear_model(norm, linear_model):
    """Just outside margin / dual norm it must succeed, just inside nothing can (interior point, no pixel limits)."""
    torch.manual_seed(0)
    images = torch.full((4, 3, 2, 2), 0.5) + 0.02 * torch.randn(4, 3, 2, 2)
    logits = linear_model(images)
    labels = logits.argmax(1)
    weight = linear_model[1].weight
    dual = {"linf": 1, "l2": 2, "l1": float("inf")}[norm]
    radii = []
    for row, label in zip(logits, labels, strict=True):
        gaps = [(row[label] - row[j]) / (weight[label] - weight[j]).norm(dual) for j in range(3) if j != label]
        radii.append(min(gaps))
    for number, radius in enumerate(map(float, radii)):
        x, y = images[number : number + 1], labels[number : number + 1]
        wide = {"low": -100.0, "high": 100.0}
        outside = PGD(Threat(norm, 1.01 * radius, **wide), steps=50, loss="margin", step_size=radius / 5)
        assert outside(linear_model, x, y).broken.all()
        assert not PGD(Threat(norm, 0.99 * radius, **wide), steps=50)(linear_model, x, y).broken.any()


def test_broken_examples_leave_the_batch(digit_cnn):
    model, images, labels = digit_cnn
    seen: list[int] = []

    def counted(x):
        seen.append(len(x))
        return model(x)

    found = PGD(Threat("linf", 0.3), steps=20)(counted, images, labels)
    assert found.accuracy < 0.1
    assert sum(seen) < 0.6 * len(images) * 22
    assert abs(float(found.queries.sum()) - sum(seen)) <= len(images)


def test_large_images_are_taken_a_few_at_a_time_on_a_cpu_with_the_same_findings():
    assert [cached(64, torch.zeros(1, 3, side, side)) for side in (16, 32, 224)] == [64, 32, 16]
    assert cached(8, torch.zeros(1, 3, 224, 224)) == 8
    torch.manual_seed(0)
    model = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(48, 3)).requires_grad_(False)
    images, seen = torch.rand(20, 3, 64, 64), []
    labels = model(images).argmax(1)
    found = PGD(Threat("linf", 0.01), steps=3)(lambda x: seen.append(len(x)) or model(x), images, labels)
    assert max(seen) == 16
    small = PGD(Threat("linf", 0.01), steps=3, batch_size=5)(model, images, labels)
    torch.testing.assert_close(found.examples, small.examples)


def test_channels_come_last_for_speed_unless_the_model_calls_view():
    torch.manual_seed(0)
    images, labels = torch.rand(12, 3, 6, 6), torch.arange(12) % 2
    body = nn.Linear(108, 2).requires_grad_(False)
    seen = []

    def reads_any(x):
        seen.append(x.is_contiguous())
        return body(x.flatten(1))

    def calls_view(x):
        return body(x.view(len(x), -1))

    attack = PGD(Threat("linf", 0.05), steps=3)
    found, same = attack(reads_any, images, labels), attack(calls_view, images, labels)
    assert not all(seen), "the fast order was tried and used"
    assert torch.equal(found.broken, same.broken) and torch.allclose(found.examples, same.examples, atol=1e-6)
    assert found.examples.is_contiguous(), "the caller's order comes back"


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd_ce", "square"])
def test_what_is_known_to_be_right_is_not_asked_again(name, digit_cnn):
    model, images, labels = digit_cnn
    right = ~wrong(model(images), labels)
    calls = []

    def counted(x):
        calls.append(len(x))
        return model(x)

    plain = ATTACKS[name](Threat("linf", 0.02))(counted, images, labels)
    first, calls[:] = sum(calls), []
    known = ATTACKS[name](Threat("linf", 0.02))(counted, images, labels, right=right)
    assert torch.equal(plain.broken, known.broken) and sum(calls) == first - len(images)
    assert torch.equal(plain.queries - 1, known.queries)


def test_rounding_hides_gradients_and_bpda_breaks_it(digit_cnn, rounded):
    model, images, labels = digit_cnn
    hidden = rounded(model)
    attack = PGD(Threat("linf", 0.2), steps=20)
    plain = attack(hidden, images, labels)
    assert plain.accuracy > 0.8
    assert attack(straight_through(hidden), images, labels).accuracy < 0.3
    assert attack(stand_in(hidden, model), images, labels).accuracy < 0.3
    assert torch.equal(straight_through(hidden)(images), hidden(images))


def test_casts_to_integers_are_passed_through_too(digit_cnn):
    model, images, labels = digit_cnn

    def as_bytes(x):
        return model((x * 16).byte().float() / 16)

    attack = PGD(Threat("linf", 0.2), steps=20)
    assert attack(straight_through(as_bytes), images, labels).accuracy < 0.3


def test_models_without_gradient_name_the_attacks_that_work(digit_cnn):
    model, images, labels = digit_cnn

    def asked(x):
        with torch.no_grad():
            return model(x)

    with pytest.raises(ConfigError, match="square, hopskipjump, noise"):
        PGD(steps=2)(asked, images, labels)
    assert Square(Threat("linf", 0.3), steps=100)(asked, images, labels).accuracy < 0.5


def test_ensemble_is_the_worst_of_each_example(digit_cnn):
    model, images, labels = digit_cnn
    threat = Threat("l2", 0.8)
    attacks = [FGSM(threat), PGD(threat, steps=10, random_start=False)]
    ensemble = AttackEnsemble([*attacks, Square(threat, steps=50)])
    found = ensemble(model, images, labels)
    for attack in attacks:
        assert (attack(model, images, labels).broken <= found.broken).all()
    assert ((ensemble.breakers >= 0) == found.broken).all()
    assert standard(threat, steps=10, queries=20)(model, images, labels).accuracy <= 0.8


def test_hopskipjump_stays_in_float32_and_improves_with_jumps():
    """ART issue 2475: its HopSkipJump hands float64 images to float32 weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).requires_grad_(False)
    seen = set()

    def checked(x):
        seen.add(x.dtype)
        return model(x)

    model[1].bias.sub_(model(torch.full((1, 1, 4, 4), 0.5))[0])  # both classes are common among random images
    images = torch.rand(6, 1, 4, 4)
    labels = model(images).argmax(1)
    gap = model[1].weight[0] - model[1].weight[1]
    logits = model(images)
    exact = (logits[:, 0] - logits[:, 1]).abs() / gap.norm()
    generator = torch.Generator().manual_seed(0)
    few, _ = HopSkipJump(Threat("l2", 1.0), steps=1).closest(checked, images, labels, generator)
    many, _ = HopSkipJump(Threat("l2", 1.0), steps=20).closest(checked, images, labels, generator)
    far = Threat("l2", 1.0).distance(images, many)
    assert seen == {torch.float32}
    assert (far >= exact * 0.999).all()
    assert far.mean() < Threat("l2", 1.0).distance(images, few).mean()
    assert float((far / exact).median()) < 1.3


def test_transfer_without_a_surrogate_is_refused(digit_cnn):
    with pytest.raises(ConfigError, match="surrogate"):
        Transfer()(*digit_cnn)


def test_random_models_are_attacked_on_the_average_over_draws(digit_cnn):
    """Early exit on one lucky draw would count noise as an attack."""
    model, images, labels = digit_cnn
    torch.manual_seed(0)

    def noisy(x):
        return model(x + 0.05 * torch.randn_like(x))

    found = PGD(Threat("linf", 0.12), steps=10, draws=4)(noisy, images, labels)
    assert found.accuracy < 0.9
    assert found.queries.max() >= 40
