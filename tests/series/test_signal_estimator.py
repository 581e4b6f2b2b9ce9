"""Signals in the estimators of scikit-learn."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from reprogram.estimator import ReprogrammedClassifier, ReprogrammedRegressor
from reprogram.inputs.mel_spectrogram import MelSpectrogram
from reprogram.inputs.signal_views import SignalViews
from reprogram.sources.small_cnn import SmallCNN

READER = SignalViews(size=32, pictures=("line_plot",), features=("proportions", "raw"))


def waves(count=24, seed=0, shortest=30):
    """(signals of unequal lengths, labels): slow and fast ones."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    sizes = rng.integers(shortest, 41, count)
    return [np.sin(np.arange(n) * (0.3 + 0.4 * y) + rng.random() * 6) for n, y in zip(sizes, labels, strict=True)], labels


def test_signals_of_unequal_lengths_are_learned_and_pickled():
    x, y = waves()
    asked, truth = waves(10, seed=1)
    model = ReprogrammedClassifier(SmallCNN(), READER, "grouped_ridge").fit(x, np.array(["slow", "fast"])[y])
    assert model.model_.target.kind == "series" and model.model_.target.input_shape[:2] == (1, 1)
    assert (model.predict(asked) == np.array(["slow", "fast"])[truth]).mean() >= 0.9
    alone = np.concatenate([model.predict_proba([signal]) for signal in asked])
    assert np.allclose(alone, model.predict_proba(asked), atol=1e-4)
    assert np.allclose(pickle.loads(pickle.dumps(model)).predict_proba(asked), model.predict_proba(asked), atol=1e-6)


def test_one_block_of_signals_with_channels_and_values():
    x = np.stack([signal[:30] for signal in waves()[0]])
    both = np.stack([x, 2 * x], 1)
    values = x.std(1)
    model = ReprogrammedRegressor(SmallCNN(), READER, "grouped_ridge").fit(both, values)
    assert model.model_.target.input_shape == (2, 1, 30) and np.corrcoef(model.predict(both), values)[0, 1] > 0.9


def test_what_is_no_signal_is_named_and_keeps_its_place():
    x, y = waves(8)
    model = ReprogrammedClassifier(SmallCNN(), READER, "grouped_ridge").fit(x, y)
    asked = [x[0], np.ones((2, 30)), "loud", np.full(30, np.nan), x[1]]
    answers = model.predict_proba(asked, errors="nan")
    assert np.isnan(answers).any(1).tolist() == [False, True, True, True, False]
    assert model.problems_[1] == "it has 2 channels, others have 1" and model.problems_[2].startswith("it is no signal")
    with pytest.raises(ValueError, match="Input 1: it has 2 channels, others have 1"):
        model.predict(asked)
    with pytest.raises(ValueError, match="X is one signal; give a list"):
        model.predict(x[0])
    with pytest.raises(ValueError, match="unlabelled is read for images and strings, not for signals"):
        model.fit(x, y, unlabelled=x)


def test_sounds_need_their_rate():
    x, y = waves(8)
    with pytest.raises(ValueError, match="how many samples there are a second"):
        ReprogrammedClassifier(SmallCNN(), MelSpectrogram(size=32), "ridge_taps").fit(x, y)
    model = ReprogrammedClassifier(SmallCNN(), MelSpectrogram(size=32), "ridge_taps", rate=4000).fit(x, y)
    assert model.model_.target.input_shape[1] == 4000
