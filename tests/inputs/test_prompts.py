"""Prompts in pixel space; each test of a trap is named after it."""

import pytest
import torch

from reprogram.errors import ConfigError
from reprogram.inputs.coarse import Coarse
from reprogram.inputs.full import Full
from reprogram.inputs.low_rank import LowRank
from reprogram.inputs.pad import Pad
from reprogram.inputs.resize import Resize
from reprogram.inputs.sample_mask import SampleMask
from reprogram.inputs.views import Views
from reprogram.interfaces import SourceSpec, TargetInfo

TARGET = TargetInfo("toy", "image", "classification", ("x", "y"), (3, 8, 8))


def built(method, side=32):
    method.build(SourceSpec("image", side, ("a", "b")), TARGET)
    return method


@pytest.mark.parametrize(
    ("method", "published"),
    [
        (Pad(inner=164 / 224), 69_840),  # VP with 30 pixels
        (Pad(inner=128 / 224), 101_376),  # AutoVP's frame
        (Full(), 150_528),
        (LowRank(), 5_376),
        (Coarse(grid=8), 192),
        (SampleMask(), 150_528 + 26_499),
        (SampleMask(layers=6), 150_528 + 102_339),
    ],
)
def test_as_many_parameters_as_published(method, published):
    assert built(method, 224).trainable() == published


@pytest.mark.parametrize("inner", [15, 16, 17])
def test_frame_and_image_do_not_overlap_at_odd_differences(inner):
    method = built(Pad(inner=inner / 32))
    method.delta.data.fill_(50.0)  # sigmoid = 1: a white frame around a black image
    view = method(torch.zeros(1, 3, inner, inner))[0]
    assert int((view[0, 0] == 0).sum()) == inner * inner
    assert int((view[0, 0] == 1).sum()) == 32 * 32 - inner * inner
    rows = torch.nonzero(view[0, 0].eq(0).any(1)).flatten()
    assert int(rows.max() - rows.min()) + 1 == inner


def test_an_untrained_frame_is_mid_grey_around_the_untouched_image():
    method = built(Pad(inner=0.5))
    image = torch.rand(2, 3, 16, 16)
    view = method(image)[0]
    assert torch.equal(view[:, :, 8:24, 8:24], image)
    assert (view[:, :, :8] == 0.5).all()
    with pytest.raises(ConfigError, match="leaving a frame"):
        built(Pad(inner=1.0))


@pytest.mark.parametrize("method", [Full(), LowRank(), SampleMask(), Coarse()])
def test_an_untrained_pattern_leaves_the_image_alone(method):
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(built(method).eval()(image)[0], image)


def test_the_pattern_lives_in_pixel_space_and_is_clamped():
    method = built(Full())
    method.delta.data.fill_(0.4)
    view = method(torch.full((1, 3, 32, 32), 0.3))[0]
    assert torch.allclose(view, torch.tensor(0.7))
    assert method(torch.full((1, 3, 32, 32), 0.9))[0].max() == 1


def test_low_rank_has_its_rank_and_is_really_built():
    method = built(LowRank(rank=2))
    image = torch.full((1, 3, 32, 32), 0.5)
    method(image)[0].square().sum().backward()
    assert method.columns.grad.abs().max() > 0  # rows start random, so that columns can leave zero
    method.columns.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    pattern = method(image)[0][0, 0] - 0.5
    assert pattern.abs().max() > 1e-4
    assert torch.linalg.matrix_rank(pattern.detach().double(), rtol=1e-4) == 2


def test_the_scale_learns_through_pixels_and_mask():
    method = built(Resize(scale=0.507), 64).double()
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    weight = torch.linspace(0, 1, 64).double().square()[None, None, None]

    def value(log_scale):
        method.log_scale.data.fill_(log_scale)
        return (method(image)[0] * weight).mean()

    here, step = float(torch.tensor(0.507).log()), 1e-5
    value(here).backward()
    with torch.no_grad():
        slope = float(value(here + step) - value(here - step)) / (2 * step)
    assert float(method.log_scale.grad) == pytest.approx(slope, rel=1e-3)


def test_the_scale_comes_back_from_its_limits():
    method = built(Resize(highest=0.8))
    method.log_scale.data.fill_(1.0)
    assert float(method.share().detach()) == pytest.approx(0.8)
    method.share().backward()
    assert method.log_scale.grad > 0


def test_a_small_scale_averages_pixels():
    method = built(Resize(scale=0.25, learn_scale=False), 64)
    checkerboard = (torch.arange(64)[:, None] + torch.arange(64)[None]).remainder(2).float().expand(1, 3, 64, 64)
    centre = method(checkerboard)[0][0, 0, 28:36, 28:36]
    assert (centre - 0.5).abs().max() < 0.05
    assert method.trainable() == 3 * 64 * 64


def test_resize_at_full_scale_is_the_image():
    image = torch.rand(1, 3, 32, 32)
    assert torch.allclose(built(Resize(scale=1.0))(image)[0][..., 1:-1, 1:-1], image[..., 1:-1, 1:-1], atol=1e-5)


def test_each_mask_value_is_copied_to_a_patch():
    method = built(SampleMask())
    mask = torch.rand(1, 3, 4, 4)
    assert torch.equal(method.up(mask), mask.repeat_interleave(8, 2).repeat_interleave(8, 3))


def test_the_mask_is_unbounded_and_has_no_gradient_at_the_first_step():
    method = built(SampleMask()).eval()
    image = torch.rand(4, 3, 32, 32)
    method(image)[0].sum().backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in method.mask.parameters())
    assert method.delta.grad.abs().max() > 0
    assert method.mask(image).min() < 0


@pytest.mark.parametrize("layers", [5, 6])
def test_the_mask_is_that_of_relu_before_pooling(layers):
    """The published order of both, to the last bit, in answers and gradients."""
    method = built(SampleMask(layers=layers))
    parts = list(method.mask)
    for place in [i for i, part in enumerate(parts) if isinstance(part, torch.nn.MaxPool2d)]:
        parts[place], parts[place + 1] = parts[place + 1], parts[place]
    assert isinstance(parts[2], torch.nn.ReLU) and isinstance(parts[3], torch.nn.MaxPool2d)
    image = torch.rand(4, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)  # many ties
    masks = [network(image) for network in (method.mask, torch.nn.Sequential(*parts))]
    assert torch.equal(*masks)
    ours, published = (torch.autograd.grad(mask.square().sum(), list(method.mask.parameters())) for mask in masks)
    assert all(torch.equal(a, b) for a, b in zip(ours, published, strict=True))


def test_batchnorm_of_the_mask_moves_in_training_only():
    method = built(SampleMask())
    before = method.mask[1].running_mean.clone()
    method.eval()(torch.rand(4, 3, 32, 32))
    assert torch.equal(method.mask[1].running_mean, before)
    method.train()(torch.rand(4, 3, 32, 32))
    assert not torch.equal(method.mask[1].running_mean, before)


def test_views_come_by_size_then_mirrored_then_inverted():
    method = built(Views(sizes=(16, 32), flip=True, invert=True))
    image = torch.rand(1, 3, 32, 32)
    views = method(image)
    assert [v.shape[-1] for v in views] == [16] * 4 + [32] * 4
    expected = [image, 1 - image, image.flip(-1), 1 - image.flip(-1)]
    assert all(torch.equal(a, b) for a, b in zip(views[4:], expected, strict=True))
    for sizes, why in (((32, 32), "once"), ((), "not an empty one")):
        with pytest.raises(ConfigError, match=why):
            built(Views(sizes=sizes))
