"""TensorBoard events hold what training and evaluation measured."""

import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reprogram.errors import ConfigError
from reprogram.inputs.pad import Pad
from reprogram.model import ReprogrammedModel
from reprogram.outputs.ridge_taps import RidgeTaps
from reprogram.report.tensorboard import TensorBoard
from reprogram.training.loop import Training


def test_events_of_a_run(easy_images, tiny_source, empty_run):
    examples, info = easy_images
    model = ReprogrammedModel(tiny_source(), Pad(), RidgeTaps(layers=("conv@2",)), info)
    hook = TensorBoard()
    history = Training(epochs=3).fit(model, examples, empty_run, [hook])
    empty_run.result.data |= {
        "metrics": {"accuracy": {"value": 0.75, "low": 0.6, "high": 0.9}, "roc_auc": {"value": None}},
        "baselines": {"linear_probe": {"accuracy": {"value": 0.5}}},
    }
    hook.on_fit_end(empty_run, model, None)
    events = EventAccumulator(str(empty_run.dir / "tensorboard")).Reload()
    losses = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert losses == [(row["epoch"], pytest.approx(row["loss"])) for row in history.epochs]
    assert events.Scalars("accuracy/program")[0].value == pytest.approx(0.75)
    assert events.Scalars("accuracy/linear_probe")[0].value == pytest.approx(0.5)
    assert "roc_auc/program" not in events.Tags()["scalars"] and events.Tags()["images"] == ["program/view_0"]


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"reprogram\[tensorboard\]"):
        TensorBoard()
