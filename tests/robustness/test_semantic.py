import colorsys

import pytest
import torch
from torch import nn

from reprogram import robustness
from reprogram.robustness.certification.linear_bounds.certify import LinearBounds
from reprogram.robustness.certification.linear_bounds.trace import NotBounded
from reprogram.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from reprogram.robustness.semantic import (
    ALL,
    CERTIFIABLE,
    Brightness,
    Contrast,
    Hue,
    Lightness,
    Occlusion,
    Rotation,
    Saturation,
    Translation,
)


@pytest.fixture
def colourful():
    """Random colours, a grey, a black and a white pixel (no hue, no saturation: they must not divide by zero)."""
    image = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image[:, 0, 0], image[:, 0, 1], image[:, 0, 2] = 0.4, 0.0, 1.0
    return image


def reference(kind, colour, e):
    hue, light, saturation = colorsys.rgb_to_hls(*colour)
    if kind is Hue:
        return colorsys.hls_to_rgb((hue + e / 6) % 1, light, saturation)
    if kind is Saturation:
        return colorsys.hls_to_rgb(hue, light, min(max(saturation + e, 0), 1)) if saturation else colour
    return colorsys.hls_to_rgb(hue, min(max(light + e, 0), 1), saturation)


@pytest.mark.parametrize("kind", [Hue, Saturation, Lightness])
def test_colours_agree_with_colorsys(kind, colourful):
    perturbation = kind()
    for e in torch.linspace(-perturbation.reach, perturbation.reach, 9, dtype=torch.float64):
        wanted = [reference(kind, colourful[:, i, j].tolist(), float(e)) for i in range(5) for j in range(5)]
        found = perturbation.apply(colourful[None], e)[0]
        assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float64).T.view(3, 5, 5), atol=1e-6)


@pytest.mark.parametrize("kind", [Hue, Saturation, Lightness, Brightness, Contrast])
def test_layers_of_relus_are_the_perturbation(kind, colourful):
    perturbation = kind()
    for e in torch.linspace(-perturbation.reach, perturbation.reach, 9, dtype=torch.float64):
        wanted = perturbation.apply(colourful[None], e)
        assert torch.allclose(perturbation.layer(colourful)(e.view(1, 1)), wanted, atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
def test_zero_changes_nothing(kind, colourful):
    assert torch.allclose(kind().apply(colourful[None], torch.tensor(0.0, dtype=torch.float64)), colourful[None])


def test_hue_comes_back_after_six_sixths(colourful):
    hue = Hue()
    turned = hue.apply(colourful[None], torch.tensor(2.5, dtype=torch.float64))
    assert torch.allclose(hue.apply(colourful[None], torch.tensor(-3.5, dtype=torch.float64)), turned, atol=1e-9)


def test_rotation_intervals_hold_every_angle_between(colourful):
    rotation = Rotation()
    low, high = rotation.interval(colourful, 3.0, 3.5)
    turned = rotation.apply(colourful[None].expand(300, -1, -1, -1), torch.linspace(3, 3.5, 300, dtype=torch.float64))
    assert (turned >= low).all() and (turned <= high).all()
    assert (high - low).mean() < 0.05


def test_rotation_by_a_quarter_is_exact(colourful):
    turned = Rotation().apply(colourful[None], torch.tensor(90.0, dtype=torch.float64))[0]
    assert any(torch.allclose(turned, colourful.rot90(k, (1, 2)), atol=1e-6) for k in (1, 3))


def test_shifts_and_squares_are_tried_completely():
    """A model that reads one pixel: exactly the shifts and squares that reach it must be found."""

    class OnePixel(nn.Module):
        def forward(self, x):
            value = x[:, 0, 4, 4]
            return torch.stack([value, 1.1 - value], 1)

    image = torch.ones(1, 1, 9, 9)
    assert Translation(reach=3).attack(OnePixel(), image, torch.tensor([0])).tolist() == [float("inf")]
    assert Translation(reach=5).attack(OnePixel(), image, torch.tensor([0])).tolist() == [5.0]
    assert Occlusion(reach=0.3).attack(OnePixel(), image, torch.tensor([0])).tolist() == [pytest.approx(0.3)]
    assert Occlusion(reach=0.3).attack(OnePixel(), image, torch.tensor([1])).tolist() == [0.0]


@pytest.mark.parametrize("kind", CERTIFIABLE)
def test_certified_ranges_stay_below_what_the_grid_finds(kind, colourful, colour_model):
    """The sandwich: no certificate exceeds an attack."""
    model, image = colour_model, colourful.float()
    label = int(model(image[None]).argmax())
    perturbation = kind(points=201)
    found = float(perturbation.attack(model, image[None], torch.tensor([label]))[0])
    certified = perturbation.certify(model, image, label, LinearBounds(both=False), most=6)
    assert 0 < certified <= min(found, perturbation.reach)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("channels", [1, 3])
def test_corruptions_keep_shape_and_range_grow_and_repeat(name, channels):
    images = torch.rand(4, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    images = nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    far = []
    for severity in SEVERITIES:
        changed = corrupt(name, images, severity)
        assert changed.shape == images.shape and torch.isfinite(changed).all()
        assert changed.min() >= 0 and changed.max() <= 1
        assert torch.equal(changed, corrupt(name, images, severity)), "the same seed, the same images"
        far.append(float((changed - images).abs().mean()))
    if name == "saturate" and channels == 1:
        assert max(far) < 1e-6, "grey stays grey"
    elif name != "saturate":  # its severities first take colour away, then add
        assert far[4] > far[0] > 0


class Coloured(nn.Module):
    """A reader of 5x5 colours with something in its middle."""

    def __init__(self, middle, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.middle, self.last = nn.Conv2d(3, 4, 3), middle, nn.Linear(36, 2)
        self.requires_grad_(False)

    def forward(self, x):
        return self.last(self.middle(self.first(x)).flatten(1))


class Doubled(nn.Module):
    def forward(self, x):
        r = torch.relu(x)
        return r + r


@pytest.mark.parametrize("kind", CERTIFIABLE)
def test_no_value_inside_a_certified_range_changes_the_answer(kind):
    """Random readers in float32, 400 values of the parameter in each range, both ends among them."""
    positive = 0
    for seed in range(3):
        model = Coloured((nn.ReLU(), Doubled(), nn.Tanh())[seed], seed)
        image = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(seed))
        label = int(model(image[None]).argmax())
        perturbation = kind(parts=20) if kind is Rotation else kind()
        reach = perturbation.certify(model, image, label, LinearBounds(both=False), most=6)
        positive += reach > 0
        values = torch.linspace(-reach, reach, 400)
        answers = model(perturbation.apply(image.expand(400, -1, -1, -1), values)).argmax(1)
        assert (answers == label).all(), (seed, values[answers != label], reach)
    assert positive >= 2, "empty ranges would prove nothing"


@pytest.mark.parametrize("kind", [Hue, Brightness, Rotation])
def test_ranges_of_models_without_proven_bounds_are_refused(kind):
    image = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
    for middle in (nn.InstanceNorm2d(4), nn.Dropout(0.5), nn.Softmax(1)):
        with pytest.raises(NotBounded, match=type(middle).__name__):
            kind().certify(Coloured(middle, 0), image, 0, LinearBounds(both=False))


def test_layers_that_are_not_the_perturbation_are_refused(monkeypatch):
    wrong = Contrast.layer
    monkeypatch.setattr(Brightness, "layer", wrong)
    model, image = Coloured(nn.ReLU(), 0), torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
    with pytest.raises(NotBounded, match="no linear bounds for brightness: its layers answer"):
        Brightness().certify(model, image, int(model(image[None]).argmax()), LinearBounds(both=False))


def test_a_finite_set_proves_nothing_of_a_model_that_answers_at_random():
    """Each shift was asked once, and the row was called a certificate."""

    drawn = torch.Generator().manual_seed(0)

    def at_random(images):
        return torch.stack([torch.ones(len(images)), 1.2 * torch.rand(len(images), generator=drawn)], 1)

    images, labels = torch.rand(4, 1, 6, 6), torch.zeros(4, dtype=torch.long)
    keep = {name: None for name in robustness.settings("full").checks if name != "semantic"}
    settings = robustness.settings("full", checks=keep | {"semantic": {"certified": 0}}, threats={"l2": 0.1})
    rows = robustness.evaluate(at_random, (images, labels), settings=settings).data["robustness"]["rows"]
    kinds = {row["check"]: row["kind"] for row in rows}
    assert kinds["translation"] == kinds["occlusion"] == "attack"
