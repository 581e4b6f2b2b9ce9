"""Any torch module as a source."""

import pytest
import torch
from torch import nn

from reprogram.errors import SourceError
from reprogram.interfaces import Tap
from reprogram.sources.module import ModuleSource


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 6),
    )


def test_logits_features_and_taps():
    module = net().eval()
    source = ModuleSource(module, size=16, mean=(0.5,) * 3, std=(0.25,) * 3, taps=["0"])
    pixels = torch.rand(2, 3, 16, 16)
    answer = source(pixels, [Tap("0", "2")])
    torch.testing.assert_close(answer.logits, module((pixels - 0.5) / 0.25))
    torch.testing.assert_close(module[5](answer.features), answer.logits)
    assert answer.taps[Tap("0", "2")].shape == (2, 16) and source.spec.feature_size == 4
    assert source(torch.rand(1, 3, 40, 7)).logits.shape == (1, 6)


def test_frozen_whatever_the_caller_does_with_the_module():
    module = net()
    source = ModuleSource(module, size=16)
    before = source.fingerprint()
    module.train()
    module[5].weight.data.add_(1.0)
    source.module.train()
    source.train()
    source(torch.rand(4, 3, 16, 16))
    assert source.fingerprint() == before


def test_a_module_has_no_origin():
    assert ModuleSource(net(), size=16).origin() is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": ["a"]}, "answers 6 logits, but 1 labels"),
        ({"features": "nowhere"}, "no submodule 'nowhere'"),
        ({"taps": ["9"]}, "no submodule '9'"),
    ],
)
def test_wrong_options_get_a_sentence(options, sentence):
    with pytest.raises(SourceError, match=sentence):
        ModuleSource(net(), size=16, **options)


def test_a_module_that_answers_no_logits():
    with pytest.raises(SourceError, match=r"must answer logits \[B, S\]; found \(1, 3, 16, 16\)"):
        ModuleSource(nn.Identity(), size=16)
