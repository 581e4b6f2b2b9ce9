"""The shared cache: a source is read once for each view, whoever asks."""

import numpy as np
import pytest
import torch

from reprogram.evaluation.features import CachedSource, digests, shared_answers, source_outputs
from reprogram.inputs.none import NoPrompt
from reprogram.interfaces import Tap
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps


def test_second_pass_is_free_and_equal(tiny_source, easy_images):
    examples, info = easy_images
    source = CachedSource(tiny_source())
    first = source_outputs(source, examples, info)[0]
    assert (source.asked, source.spared) == (40, 0)
    second = source_outputs(source, examples, info)[0]
    assert (source.asked, source.spared) == (40, 40)
    assert torch.equal(first.features, second.features) and torch.equal(first.logits, second.logits)


def test_answers_equal_those_of_the_source_itself(tiny_source, easy_images):
    examples, info = easy_images
    tap = (Tap("conv", "2"),)
    cached, plain = CachedSource(tiny_source()), tiny_source()
    source_outputs(cached, examples, info)
    for _ in range(2):
        a, b = (source_outputs(s, examples, info, taps=tap)[0] for s in (cached, plain))
        assert torch.equal(a.taps[tap[0]], b.taps[tap[0]]) and torch.equal(a.features, b.features)


def test_a_tap_that_was_not_read_costs_one_more_pass_and_keeps_the_others(tiny_source, easy_images):
    examples, info = easy_images
    source = CachedSource(tiny_source())
    for taps in ((Tap("conv", "1"),), (Tap("conv", "2"),), (Tap("conv", "1"), Tap("conv", "2")), ()):
        source_outputs(source, examples, info, taps=taps)
    assert (source.asked, source.spared) == (80, 80)


def test_other_views_are_not_confused(tiny_source, easy_images):
    examples, info = easy_images
    source = CachedSource(tiny_source())
    small = NoPrompt(size=8)
    small.build(source.spec, info)
    a = source_outputs(source, examples, info)[0].features
    b = source_outputs(source, examples, info, small)[0].features
    assert source.asked == 80 and not torch.allclose(a, b)


def test_nothing_is_kept_beyond_the_limit(tiny_source, easy_images):
    examples, info = easy_images
    source = CachedSource(tiny_source(), limit_mb=0)
    source_outputs(source, examples, info)
    source_outputs(source, examples, info)
    assert source.bytes == 0 and source.asked == 80


def test_gradients_pass_through_and_are_never_kept(tiny_source):
    source = CachedSource(tiny_source())
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    source(images).logits.sum().backward()
    assert images.grad is not None and source.bytes == 0


def test_model_has_its_own_source_again_afterwards(tiny_source, easy_images):
    _, info = easy_images
    source = tiny_source()
    model = ReprogrammedModel(source, NoPrompt(), RidgeTaps(layers=("conv@1",)), info)
    with pytest.raises(RuntimeError), shared_answers(model) as cached:
        assert model.source is cached and cached.fingerprint() == source.fingerprint()
        raise RuntimeError
    assert model.source is source


def test_batches_may_be_cut_and_shuffled(tiny_source, easy_images):
    examples, info = easy_images
    source = CachedSource(tiny_source())
    whole = source_outputs(source, examples.subset(np.arange(20)), info, taps=(Tap("conv"),), batch_size=20)[0]
    rows = np.random.default_rng(0).permutation(40)
    mixed = source_outputs(source, examples.subset(rows), info, taps=(Tap("conv"),), batch_size=7)[0]
    assert (source.asked, source.spared) == (40, 20)
    plain = source_outputs(tiny_source(), examples.subset(rows), info, taps=(Tap("conv"),))[0]
    assert torch.allclose(mixed.features, plain.features, atol=1e-6)
    assert torch.allclose(mixed.taps[Tap("conv")], plain.taps[Tap("conv")], atol=1e-6)
    known = np.flatnonzero(rows < 20)
    assert torch.equal(mixed.logits[known], whole.logits[rows[known]])


def test_digests_tell_contents_and_shapes_apart():
    x = torch.arange(12.0)
    assert digests(x.view(1, 3, 4)) != digests(x.view(1, 4, 3))
    assert digests(x.view(2, 6)) == digests(x.view(2, 6).clone()) != digests(x.view(2, 6).double())
    assert digests(torch.zeros(1, 2).expand(3, 2)) == digests(torch.zeros(3, 2))
    assert digests(["ab", "c"]) != digests(["a", "bc"]) and digests({"input_ids": x}) is None
