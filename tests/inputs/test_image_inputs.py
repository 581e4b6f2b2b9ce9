"""What every image input must do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprogram.errors import ConfigError
from reprogram.inputs.base import ImageInput, resize, with_channels
from reprogram.interfaces import InputTransformation, SourceSpec, TargetInfo
from reprogram.registry import find

IMAGES = ("full", "low_rank", "none", "pad", "resize", "sample_mask", "views")
SPEC = SourceSpec("image", 32, ("a", "b"))
TARGET = TargetInfo("toy", "image", "classification", ("x", "y"), (1, 8, 8))


def built(name, **options):
    method = find("reprogram.inputs", name, InputTransformation)(**options)
    method.build(SPEC, TARGET)
    return method


@pytest.mark.parametrize("name", IMAGES)
@settings(max_examples=8, deadline=None)
@given(
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    scale=st.sampled_from([0.1, 3.0]),
)
def test_any_image_becomes_rgb_in_unit_range(name, channels, height, width, scale):
    method = built(name)
    generator = torch.Generator().manual_seed(height)
    for parameter in method.parameters():  # any prompt whatever
        parameter.data.add_(scale * torch.randn(parameter.shape, generator=generator))
    batch = torch.rand(2, channels, height, width, generator=generator)
    for view in method(batch):
        assert view.shape[:2] == (2, 3) and view.shape[2] == view.shape[3]
        assert view.dtype == torch.float32
        assert view.min() >= 0 and view.max() <= 1


@pytest.mark.parametrize("name", IMAGES)
def test_the_same_configuration_builds_the_same_program(name):
    one, two = built(name).eval(), built(name).eval()
    again = type(one)(**one.config())
    again.build(SPEC, TARGET)
    again.eval().load_state_dict(one.state_dict())
    batch = torch.rand(2, 1, 8, 8)
    for a, b, c in zip(one(batch), two(batch), again(batch), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


@pytest.mark.parametrize("name", IMAGES)
def test_every_parameter_of_a_prompt_can_learn(name):
    method = built(name).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in method.parameters():  # away from zero, where a product of two zeros has no gradient
        parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    batch = 0.2 + 0.6 * torch.rand(2, 1, 8, 8, generator=generator)
    total = sum((view * torch.rand(view.shape, generator=generator)).sum() for view in method(batch))
    if total.requires_grad:  # inputs without parameters have nothing to learn
        total.backward()
    for key, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", [n for n in IMAGES if n != "views"])
def test_size_is_what_the_source_reads(name):
    assert built(name)(torch.rand(1, 3, 8, 8))[0].shape[-1] == 32
    assert built(name, size=48)(torch.rand(1, 3, 8, 8))[0].shape[-1] == 48


def test_none_passes_strings_and_resizes_images():
    method = find("reprogram.inputs", "none", InputTransformation)()
    method.build(SourceSpec("text", 64, ()), TargetInfo("t", "text", "classification", ("x", "y")))
    assert method(["a", "b"]) == [["a", "b"]]
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(built("none")(image)[0], image)


def test_resizing_averages_instead_of_sampling():
    checkerboard = (torch.arange(64)[:, None] + torch.arange(64)[None]).remainder(2).float()[None, None]
    small = resize(checkerboard, 8)
    assert (small[..., 1:-1, 1:-1] - 0.5).abs().max() < 0.02


def test_channels_are_repeated_or_averaged():
    grey, colour = torch.rand(1, 1, 4, 4), torch.rand(1, 3, 4, 4)
    assert torch.equal(with_channels(grey, 3)[:, 2], grey[:, 0])
    assert torch.allclose(with_channels(colour, 1)[:, 0], colour.mean(1))
    with pytest.raises(ConfigError, match="3 channels"):
        with_channels(torch.rand(1, 2, 4, 4), 3)


def test_mistakes_get_one_sentence():
    with pytest.raises(ConfigError, match="at least 8"):
        built("none", size=4)
    with pytest.raises(ConfigError, match="reads text"):
        ImageInput().build(SourceSpec("text", 64, ()), TARGET)
