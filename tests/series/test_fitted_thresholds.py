"""Thresholds of MiniRocket's kernels: quantiles of training signals alone, kept with the program, read back as they were."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from reprogram.artifact import from_pretrained, save_pretrained
from reprogram.errors import ArtifactError, ConfigError, SourceError
from reprogram.inputs.signal_views import SignalViews
from reprogram.interfaces import SourceOutput, SourceSpec, Tap, TargetInfo, to_tensor_labels
from reprogram.modalities import Candidate
from reprogram.modalities._kernels import kernels, steps
from reprogram.model import ReprogrammedModel, pick
from reprogram.outputs import _rocket
from reprogram.outputs.grouped_ridge import GroupedRidge
from reprogram.selection.crossval import out_of_fold
from reprogram.sources.small_cnn import SmallCNN
from reprogram.targets.series import from_signals

SPEC = SourceSpec("image", 16, ("a", "b"), taps=("conv",))
INFO = TargetInfo("t", "series", "classification", ("a", "b"), (2, 1, 30))
OPTIONS = {"layers": ["conv@1"], "each": 2}


def outputs(count=20, seed=0):
    rng = np.random.default_rng(seed)
    side = {Tap("rocket", "side"): torch.tensor(rng.normal(size=(count, 60)), dtype=torch.float32)}
    return [SourceOutput(torch.zeros(count, 2), None, {Tap("conv", "1"): torch.randn(count, 3)} | side)]


def built(**options):
    output = GroupedRidge(**(OPTIONS | options))
    output.build(SPEC, INFO)
    return output


def test_a_share_of_time_is_counted_where_the_kernel_lies():
    signals = torch.randn(3, 1, 40, generator=torch.Generator().manual_seed(0))
    levels = _rocket.fitted(signals, 1)
    found = _rocket.above(signals, levels)
    assert found.shape == (3, _rocket.width(40)) and found.min() >= 0 and found.max() <= 1
    row, place, step = 7, 2, steps(40)[2]  # padded: every second dilation is
    padded = np.pad(signals[1, 0].numpy(), 4 * step)
    answers = [(padded[t : t + 8 * step + 1 : step] * kernels()[row, 0].numpy()).sum() for t in range(40)]
    column = place * 84 + row
    assert found[1, column] == pytest.approx(np.mean(np.array(answers) > float(levels[column])))


def test_every_threshold_is_an_answer_of_a_training_signal():
    signals = torch.stack([torch.full((1, 40), 0.0), torch.randn(1, 40)])
    flat, both = _rocket.fitted(signals[:1], 2), _rocket.fitted(signals, 2)
    assert bool((flat == 0).all())  # a constant signal answers 0 wherever no end is near, and ends are zero too
    assert 0.2 < float((both != 0).float().mean()) < 0.8  # each is taken from one of the two


def test_what_is_held_out_of_a_fold_moves_no_threshold():
    seen, labels = outputs(), torch.arange(20) % 2
    folds = [np.arange(20) % 3 == k for k in range(2)]
    whole = out_of_fold(Candidate("", ("none", {}), ("grouped_ridge", OPTIONS), ()), seen, labels, folds, SPEC, INFO)
    for fold, mask in enumerate(folds):
        kept, held = (torch.from_numpy(np.flatnonzero(rows)) for rows in (~mask, mask))
        output = built()
        output.fit(pick(seen, kept), labels[kept])
        signals = seen[0].taps[Tap("rocket", "side")].unflatten(1, (2, 30))
        assert torch.equal(output.levels, _rocket.fitted(signals[kept], 2))
        assert not torch.equal(output.levels, _rocket.fitted(signals, 2))
        assert torch.allclose(whole[fold, held], output(pick(seen, held)))


def test_a_program_with_thresholds_answers_as_before_after_it_was_kept(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    signals = [np.sin(np.arange(rng.integers(20, 40)) * (0.3 + 0.5 * c) + rng.normal(size=(2, 1))) for c in labels]
    signals[3][1, 4] = np.nan
    task = from_signals(signals, labels, test_size=8)
    reader = SignalViews(size=32, pictures=("line_plot",), features=("rocket", "raw"))
    model = ReprogrammedModel(SmallCNN(), reader, GroupedRidge(), task.info)
    model.output.fit(model.collect(task.train), to_tensor_labels(task.train.labels))
    model.settle()
    assert (model.eval().predict(task.test) == task.test.labels).all()
    save_pretrained(model, tmp_path, {})
    again = from_pretrained(tmp_path)
    assert torch.equal(again.output.levels, model.output.levels)
    assert np.array_equal(again.predict_proba(task.test), model.predict_proba(task.test))
    longer = torch.from_numpy(np.concatenate([signals[0], signals[0]], 1)[None].astype(np.float32))
    assert np.isfinite(again.predict_proba(longer)).all()

    kept = json.loads((tmp_path / "program.json").read_text())
    assert kept["output"]["config"]["thresholds"] == len(model.output.levels) == 3 * _rocket.width(reader.length)
    for wrong, reason in ((0, "do not know"), (7, "has the shape"), (10**7, "thresholds"), (-1, "thresholds")):
        kept["output"]["config"]["thresholds"] = wrong
        (tmp_path / "program.json").write_text(json.dumps(kept))
        with pytest.raises(ArtifactError, match=reason):
            from_pretrained(tmp_path)


def test_thresholds_of_other_signals_are_refused():
    output = built()
    with pytest.raises(SourceError, match="set by fit"):
        output(outputs())
    output.fit(outputs(), torch.arange(20) % 2)
    other = outputs()
    other[0].taps[Tap("rocket", "side")] = torch.zeros(20, 200)
    with pytest.raises(SourceError, match="set by fit"):
        output(other)
    other[0].taps[Tap("rocket", "side")] = torch.zeros(20, 61)
    with pytest.raises(SourceError, match="2 channels"):
        output(other)
    with pytest.raises(ConfigError, match="thresholds"):
        built(thresholds=2_000_000)


def test_gradients_reach_the_signal_through_thresholds():
    signals = torch.randn(2, 3, 30)
    levels = _rocket.fitted(signals, 1)
    moved = signals.clone().requires_grad_(True)
    shares = _rocket.above(moved, levels)
    assert torch.allclose(shares.detach(), _rocket.above(signals, levels), atol=1e-6)
    shares.sum().backward()
    assert float(moved.grad.abs().sum()) > 0
